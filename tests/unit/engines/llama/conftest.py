from tests.support.models import random_model

__all__ = ["random_model"]
