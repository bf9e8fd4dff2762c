"""One pane for all generating tabs: every section once, in an order that suits each tab."""

from tabs.panes import GeneratingTab, section_order


def test_what_a_tab_has_alone_stands_where_the_tab_has_it() -> None:
    order = section_order(
        (
            GeneratingTab("a", "A", ("prompt", "model", "size", "more")),
            GeneratingTab("b", "B", ("start", "prompt", "model", "strength", "size", "more")),
            GeneratingTab("c", "C", ("prompt", "model", "mask", "more", "last")),
        )
    )
    assert order == ["start", "prompt", "model", "mask", "strength", "size", "more", "last"]
