from hypothesis import given
from hypothesis import strategies as st

from hotloop.engines.llama.shared_cells import SharedCells

SEQUENCES = 5


@given(
    st.lists(
        st.tuples(st.sampled_from(["grow", "share", "cut"]), *[st.integers(0, SEQUENCES - 1)] * 2, st.integers(0, 12)),
        max_size=40,
    )
)
def test_it_counts_what_cells_with_names_would_show(steps: list[tuple[str, int, int, int]]) -> None:
    shared = SharedCells(SEQUENCES)
    cells: list[list[int]] = [[] for _ in range(SEQUENCES)]
    names = iter(range(1000))
    for kind, one, other, length in steps:
        if kind == "grow":
            cells[one] += [next(names) for _ in range(length)]
        elif kind == "cut":
            shared.cut(one, length)
            del cells[one][length:]
        elif one != other:
            shared.cut(other, 0)
            end = min(length, len(cells[one]))
            shared.share(one, other, end)
            cells[other] = cells[one][:end]
    for number, own in enumerate(cells):
        others = [other for other in range(SEQUENCES) if other != number]
        seen = {cell for other in others for cell in cells[other]}
        assert shared.seen_by_others(number) == len(seen & set(own))
        few = others[:2]
        seen = {cell for other in few for cell in cells[other]}
        assert shared.seen_by(few, number) == len(seen & set(own))
        assert shared.seen_by([], number) == 0
