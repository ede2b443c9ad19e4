from hotloop.engines.llama.cell_range import MOVE_COST, CellRange


def test_holes_are_filled_before_the_range_grows() -> None:
    cells = CellRange()
    cells.add(1000)
    cells.free(300)
    cells.add(200)
    assert (cells.top, cells.holes) == (1000, 100)
    cells.add(200)
    assert (cells.top, cells.holes) == (1100, 0)


def test_a_sweep_is_due_when_useless_cells_were_visited_as_often_as_moving_the_others_costs() -> None:
    cells = CellRange()
    cells.add(4000)
    assert [cells.visited(1, idle=3000) for _ in range(30)].count(True) == 1  # 64 visits of 1000 cells are 22 of 3000


def test_what_stays_below_one_rounding_of_the_range_is_left_alone() -> None:
    cells = CellRange()
    cells.add(1000)
    cells.free(200)
    assert not any(cells.visited(512, idle=0) for _ in range(10 * MOVE_COST))


def test_nothing_is_left_to_sweep_where_all_is_in_use() -> None:
    cells = CellRange()
    cells.add(1000)
    assert not any(cells.visited(512, idle=0) for _ in range(10 * MOVE_COST))
    cells.free(900)
    cells.reset()
    assert not cells.visited(512, idle=0)
