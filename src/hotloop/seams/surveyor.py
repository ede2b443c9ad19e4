"""Who looks through a long input where no other connection waits for it."""

from dataclasses import dataclass
from typing import Protocol

import msgspec

from hotloop.session.input_survey import InputSurvey


@dataclass(frozen=True, slots=True)
class Surveyed:
    """What was found. Without a survey the input is to be read as it is: a short one, or `fallbacks` say why."""

    survey: InputSurvey | None = None
    fallbacks: tuple[str, ...] = ()


class Surveyor(Protocol):
    """Surveys inputs that came in no message as they are: put together from several."""

    async def survey(self, raw: msgspec.Raw) -> Surveyed:
        """What an input holds, if it is long. Raises PayloadTooLarge, and Overloaded."""
        ...
