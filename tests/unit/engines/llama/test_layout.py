from hotloop.engines.llama.binding import library
from hotloop.engines.llama.layout import ContextParams, ModelParams, layout_fault


def defaults() -> tuple[ModelParams, ContextParams]:
    return library()["llama_model_default_params"](), library()["llama_context_default_params"]()


def test_the_pinned_wheel_has_the_layout_of_the_table() -> None:
    assert layout_fault(*defaults()) is None


def test_a_moved_field_is_named() -> None:
    model, context = defaults()
    context.kv_unified = True
    fault = layout_fault(model, context)
    assert fault is not None
    assert "llama_context_params.kv_unified" in fault


def test_a_moved_model_field_is_named() -> None:
    model, context = defaults()
    model.vocab_only = True
    fault = layout_fault(model, context)
    assert fault is not None
    assert "llama_model_params.vocab_only" in fault
