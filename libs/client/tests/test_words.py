"""Messages count in the right number and repeat others' words only so far."""

from cairn_client.words import counted, first_of, quoted, shortened


def test_one_is_counted_as_one() -> None:
    assert [counted(n, "row") for n in (0, 1, 2000)] == ["0 rows", "1 row", "2,000 rows"]


def test_long_words_of_others_are_cut_with_an_ellipsis() -> None:
    assert shortened("a" * 80) == "a" * 80
    assert shortened("a" * 5000) == "a" * 79 + "…"
    assert quoted("b\n") == repr("b\n")
    assert first_of(["a", "b", "c", "d"]) == "'a', 'b', 'c', …"
