"""One part of a stage moves the whole of it on."""

from ssmith.core.progress import part_of


def test_a_part_moves_its_stage_and_never_back():
    told = []
    inner = part_of(lambda *said: told.append(said), "sweep", 2, 9)
    inner("measuring columns", 1, 4, "layer 0")
    inner("measuring columns", 4, 4)
    inner("pruning blocks", 0, 4)
    inner("pruning blocks", 3, 4)
    assert told == [
        ("sweep", 2.25, 9, "measuring columns, layer 0"),
        ("sweep", 2.25, 9, "measuring columns"),
        ("sweep", 2.25, 9, "pruning blocks"),
        ("sweep", 2.75, 9, "pruning blocks"),
    ]
