r"""A1111's grammar as a table: what each text means, by its published rules (docs/decisions/0023-a1111-prompts.md).

Attention: weights multiply; round and square brackets are two stacks; what is not closed acts to the end.
Editing: the text that is read at each step, in the first pass (10 steps) and in a hires pass behind it.
"""

import pytest

from contract.prompt import Part, _pieces, parse_prompt

# text, "words=weight" joined by " | "
ATTENTION: list[tuple[str, str]] = [
    ("normal text", "normal text=1"),
    ("an (important) word", "an =1 | important=1.1 |  word=1"),
    ("((twice))", "twice=1.21"),
    ("(((thrice)))", "thrice=1.331"),
    ("[less]", "less=0.909091"),
    ("[[less]]", "less=0.826446"),
    ("([even])", "even=1"),
    ("[(even)]", "even=1"),
    ("(a:1.5)", "a=1.5"),
    ("(a:0.5)", "a=0.5"),
    ("(a:.5)", "a=0.5"),
    ("(a:2)", "a=2"),
    ("(a:2.)", "a=2"),
    ("(a:+1.3)", "a=1.3"),
    ("(a:-1)", "a=-1"),
    ("(a:-.25)", "a=-0.25"),
    ("(a:0)", "a=0"),
    ("(a:0.0) b", "a=0 |  b=1"),
    ("(a:1)", "a=1"),
    ("(a: 1.3 )", "a=1.3"),
    ("(a :1.3)", "a =1.3"),
    ("(a:\n1.3)", "a=1.3"),
    ("(a:11)", "a=11"),
    ("(a:123456)", "a=123456"),
    ("(a:-40.5)", "a=-40.5"),
    ("(a:1e1)", "a:1e1=1.1"),
    ("(a:1.5e2)", "a:1.5e2=1.1"),
    ("(a:nan)", "a:nan=1.1"),
    ("(a:inf)", "a:inf=1.1"),
    ("(a:1,5)", "a:1,5=1.1"),
    ("(a:1.2.3)", "a:1.2.3=1.1"),
    ("(a:.)", "a:.=1.1"),
    ("(a:--1)", "a:--1=1.1"),
    ("(a:)", "a:=1.1"),
    ("(a:b)", "a:b=1.1"),
    ("(a:b:1.5)", "a:b=1.5"),
    ("(:1.5)", ""),
    ("()", ""),
    ("[]", ""),
    ("(a (b:2) c:0.5)", "a =0.5 | b=1 |  c=0.5"),
    ("(a (b) c:2)", "a =2 | b=2.2 |  c=2"),
    ("(unnecessary)(parens)", "unnecessaryparens=1.1"),
    ("un(bal)anced", "un=1 | bal=1.1 | anced=1"),
    # never closed
    ("(unbalanced tree", "unbalanced tree=1.1"),
    ("sea, ((moon), boat", "sea, =1 | moon=1.21 | , boat=1.1"),
    ("sea, [moon, boat", "sea, =1 | moon, boat=0.909091"),
    ("((a", "a=1.21"),
    ("[[a", "a=0.826446"),
    ("a (", "a =1"),
    ("a [", "a =1"),
    ("(a [b", "a =1.1 | b=1"),
    ("[a (b", "a =0.909091 | b=1"),
    ("(a:1.3", "a:1.3=1.1"),
    ("((a:1.3)", "a=1.43"),
    ("a (b (c:2) d", "a =1 | b =1.1 | c=2.2 |  d=1.1"),
    ("a (b) (c", "a =1 | b=1.1 |  =1 | c=1.1"),
    # never opened
    ("a)", "a)=1"),
    ("a]", "a]=1"),
    ("a) (b)", "a) =1 | b=1.1"),
    ("a))(b)", "a))=1 | b=1.1"),
    ("a:1.3)", "a:1.3)=1"),
    ("a :1.3), b", "a :1.3), b=1"),
    (":)", ":)=1"),
    ("(a))", "a=1.1 | )=1"),
    # crossed: one stack for each kind
    ("(a [b) c]", "a =1.1 | b=1 |  c=0.909091"),
    ("[a (b] c)", "a =0.909091 | b=1 |  c=1.1"),
    ("a ( b ] c", "a =1 |  b ] c=1.1"),
    ("a [ b ) c", "a =1 |  b ) c=0.909091"),
    ("(a [b:1.5) c]", "a =1.5 | b=1.36364 |  c=0.909091"),
    ("[a:1.5)", "a:1.5)=0.909091"),
    ("(a]:2)", "a]=2"),
    (
        "(((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
        "house=1.573 |  =1.1 | on=1 |  a =1.1 | hill=0.55 | , sun, =1.1 | sky=1.4641 | .=1.1",
    ),
    # escapes
    (r"\(literal\]", "(literal]=1"),
    (r"\[a\)", "[a)=1"),
    (r"\(a\) (b)", "(a) =1 | b=1.1"),
    (r"(\(a\):1.2)", "(a)=1.2"),
    (r"(a\)", "a)=1.1"),
    (r"(a\):1.3)", "a)=1.3"),
    (r"a\\b", r"a\b=1"),
    (r"\\(a)", "\\=1 | a=1.1"),
    (r"\\\(a", r"\(a=1"),
    ("a\\b", "ab=1"),
    ("\\", ""),
    ("a\\", "a=1"),
    (r"a\:b", "a:b=1"),
    (r"a\|b", "a|b=1"),
    (r"\a\b", "ab=1"),
    (r"(a\:1.2)", "a=1.2"),
    # breaks, tags, comments
    ("a BREAK b", "a =1 | BREAK |  b=1"),
    ("BREAK", "BREAK"),
    ("a BREAK BREAK b", "a =1 | BREAK |  =1 | BREAK |  b=1"),
    ("(a BREAK b)", "a =1.1 | BREAK |  b=1.1"),
    ("(a BREAK b:1.5)", "a =1.5 | BREAK |  b=1.5"),
    ("(a BREAK b", "a =1.1 | BREAK |  b=1.1"),
    ("BREAKING breAK xBREAK", "BREAKING breAK xBREAK=1"),
    ("a,BREAK,b", "a,=1 | BREAK | ,b=1"),
    ("a <lora:ink:0.8> b", "a  b=1"),
    ("(a <lora:ink:0.8> b:1.2)", "a  b=1.2"),
    ("(a<lora:ink:1>", "a=1.1"),
    ("<lora:a(b:1>c)", "c)=1"),
    ("<unknown:x>a", "a=1"),
    ("a < b > c", "a < b > c=1"),
    ("<3 you", "<3 you=1"),
    ("a # b", "a =1"),
    ("# whole\na", "\na=1"),
    ("a # b\nc", "a \nc=1"),
    ("a #b\n#c\nd", "a \n\nd=1"),
    ("(a # b)\nc", "a \nc=1.1"),
    ("(a # b\nc)", "a \nc=1.1"),
    ("a #(b", "a =1"),
    ("a#ff0000", "a=1"),
    (r"a \# b", "a =1"),
    ("#", ""),
    ("# <lora:ink:1>\nb", "\nb=1"),
    # other scripts, white space, nothing
    ("", ""),
    ("   ", "   =1"),
    ("(é:1.2) ü", "é=1.2 |  ü=1"),
    ("(日本:1.3)、(海)", "日本=1.3 | 、=1 | 海=1.1"),
    ("(🦊) 🌊", "🦊=1.1 |  🌊=1"),
    ("（a）", "（a）=1"),
    ("(a\nb:1.2)", "a\nb=1.2"),
    ("a: b", "a: b=1"),
    ("10:30", "10:30=1"),
    ("a::b", "a::b=1"),
]

# text, what is read at steps 0 to 9 in runs: "a*5 b*5"; the same of a hires pass of 6 steps behind 10
EDITING: list[tuple[str, list[tuple[str, int]], list[tuple[str, int]]]] = [
    ("test", [("test", 10)], [("test", 6)]),
    ("a [b:3]", [("a ", 3), ("a b", 7)], [("a b", 6)]),
    ("a [b: 3]", [("a ", 3), ("a b", 7)], [("a b", 6)]),
    ("a [b:3 ]", [("a ", 3), ("a b", 7)], [("a b", 6)]),
    ("a [[[b]]:2]", [("a ", 2), ("a [[b]]", 8)], [("a [[b]]", 6)]),
    ("[(a:2):3]", [("", 3), ("(a:2)", 7)], [("(a:2)", 6)]),
    ("a [b : c : 1] d", [("a b  d", 1), ("a  c  d", 9)], [("a  c  d", 6)]),
    ("a[b:[c:d:2]:1]e", [("abe", 1), ("ace", 1), ("ade", 8)], [("ade", 6)]),
    ("a [unbalanced", [("a [unbalanced", 10)], [("a [unbalanced", 6)]),
    ("a [b:.5] c", [("a  c", 5), ("a b c", 5)], [("a b c", 6)]),
    ("((a][:b:c [d:3]", [("((a][:b:c ", 3), ("((a][:b:c d", 7)], [("((a][:b:c d", 6)]),
    ("[fe|]male", [("female", 1), ("male", 1)] * 5, [("female", 1), ("male", 1)] * 3),
    (
        "[fe|||]male",
        [("female", 1), ("male", 3), ("female", 1), ("male", 3), ("female", 1), ("male", 1)],
        [("female", 1), ("male", 3), ("female", 1), ("male", 1)],
    ),
    ("[a|(b:1.1)]", [("a", 1), ("(b:1.1)", 1)] * 5, [("a", 1), ("(b:1.1)", 1)] * 3),
    ("[a|b|c]", [("a", 1), ("b", 1), ("c", 1)] * 3 + [("a", 1)], [("a", 1), ("b", 1), ("c", 1)] * 2),
    ("[|a]", [("", 1), ("a", 1)] * 5, [("", 1), ("a", 1)] * 3),
    # by step
    ("[a:b:3]", [("a", 3), ("b", 7)], [("b", 6)]),
    ("[a::4]", [("a", 4), ("", 6)], [("", 6)]),
    ("[:a:4]", [("", 4), ("a", 6)], [("a", 6)]),
    ("[a:4]", [("", 4), ("a", 6)], [("a", 6)]),
    ("[::4]", [("", 10)], [("", 6)]),
    ("[a:b:0]", [("b", 10)], [("b", 6)]),
    ("[a:b:-2]", [("b", 10)], [("b", 6)]),
    ("[a:b:+3]", [("a", 3), ("b", 7)], [("b", 6)]),
    ("[a:b:1]", [("a", 1), ("b", 9)], [("b", 6)]),
    ("[a:b:10]", [("a", 10)], [("b", 6)]),
    ("[a:b:12]", [("a", 10)], [("a", 2), ("b", 4)]),
    ("[a:b:16]", [("a", 10)], [("a", 6)]),
    ("[a:b:999]", [("a", 10)], [("a", 6)]),
    ("[a:b:1e1]", [("a", 10)], [("b", 6)]),
    # by fraction
    ("[a:b:0.5]", [("a", 5), ("b", 5)], [("b", 6)]),
    ("[desert:sea:0.5] at night", [("desert at night", 5), ("sea at night", 5)], [("sea at night", 6)]),
    ("[a:b:0.25]", [("a", 2), ("b", 8)], [("b", 6)]),
    ("[a:b:0.0]", [("b", 10)], [("b", 6)]),
    ("[a:b:1.0]", [("a", 10)], [("b", 6)]),
    ("[a:b:1.]", [("a", 10)], [("b", 6)]),
    ("[x:1.2]", [("", 10)], [("", 1), ("x", 5)]),
    ("[b:c:1.5]", [("b", 10)], [("b", 3), ("c", 3)]),
    ("[b:c:1.25]", [("b", 10)], [("b", 1), ("c", 5)]),
    ("[b::1.5]", [("b", 10)], [("b", 3), ("", 3)]),
    ("[b:c:2.0]", [("b", 10)], [("b", 6)]),
    ("[b:c:3.5]", [("b", 10)], [("b", 6)]),
    ("[b:c:-0.5]", [("c", 10)], [("c", 6)]),
    ("[[a:b:0.5]:c:1.5]", [("a", 5), ("b", 5)], [("b", 3), ("c", 3)]),
    # one in the other
    ("[a:[b|c]:4]", [("a", 4), ("b", 1), ("c", 1), ("b", 1), ("c", 1), ("b", 1), ("c", 1)], [("b", 1), ("c", 1)] * 3),
    ("[[a|b]:c:4]", [("a", 1), ("b", 1), ("a", 1), ("b", 1), ("c", 6)], [("c", 6)]),
    (
        "[[a:b:2]|c]",
        [("a", 1), ("c", 1), ("b", 1), ("c", 1), ("b", 1), ("c", 1), ("b", 1), ("c", 1), ("b", 1), ("c", 1)],
        [("b", 1), ("c", 1)] * 3,
    ),
    ("[[a:3]:5]", [("", 5), ("a", 5)], [("a", 6)]),
    ("([a:b:3]:1.2)", [("(a:1.2)", 3), ("(b:1.2)", 7)], [("(b:1.2)", 6)]),
    ("[(a|b):3]", [("[(a|b):3]", 10)], [("[(a|b):3]", 6)]),
    ("(a [b:c:3])", [("(a b)", 3), ("(a c)", 7)], [("(a c)", 6)]),
    ("[a:b:3] [c:d:5]", [("a c", 3), ("b c", 2), ("b d", 5)], [("b d", 6)]),
    # what is not well-formed stays, and takes nothing else along but what holds it
    ("[a:b]", [("[a:b]", 10)], [("[a:b]", 6)]),
    ("[a:b:c]", [("[a:b:c]", 10)], [("[a:b:c]", 6)]),
    ("[a:b:c:3]", [("[a:b:c:3]", 10)], [("[a:b:c:3]", 6)]),
    ("[a:b:]", [("[a:b:]", 10)], [("[a:b:]", 6)]),
    ("[a:3", [("[a:3", 10)], [("[a:3", 6)]),
    ("a:3]", [("a:3]", 10)], [("a:3]", 6)]),
    ("[a (b:c:3]", [("[a (b:c:3]", 10)], [("[a (b:c:3]", 6)]),
    ("[a) b:c:3]", [("[a) b:c:3]", 10)], [("[a) b:c:3]", 6)]),
    ("[[a:b]:c:3]", [("[[a:b]:c:3]", 10)], [("[[a:b]:c:3]", 6)]),
    ("[(a:b:c):x:3]", [("[(a:b:c):x:3]", 10)], [("[(a:b:c):x:3]", 6)]),
    ("[[a:3]", [("[", 3), ("[a", 7)], [("[a", 6)]),
    ("a: [c:d:3]", [("a: c", 3), ("a: d", 7)], [("a: d", 6)]),
    ("(a, [c:d:3]", [("(a, c", 3), ("(a, d", 7)], [("(a, d", 6)]),
    ("[a:b:1.5.2]", [("[a:b:1.5.2]", 10)], [("[a:b:1.5.2]", 6)]),
    # a bar or a backslash that no rule reads
    ("a | b [c:3]", [("a | b [c:3]", 10)], [("a | b [c:3]", 6)]),
    ("[a|b:0.5]", [("[a|b:0.5]", 10)], [("[a|b:0.5]", 6)]),
    ("[a|b [c:3]", [("[a|b [c:3]", 10)], [("[a|b [c:3]", 6)]),
    ("[c:3] \\", [("[c:3] \\", 10)], [("[c:3] \\", 6)]),
    # escapes
    (r"a \[b:3]", [(r"a \[b:3]", 10)], [(r"a \[b:3]", 6)]),
    (r"[a\:b:c:3]", [(r"a\:b", 3), ("c", 7)], [("c", 6)]),
    (r"[a\]:3]", [("", 3), (r"a\]", 7)], [(r"a\]", 6)]),
    (r"[a\|b|c]", [(r"a\|b", 1), ("c", 1)] * 5, [(r"a\|b", 1), ("c", 1)] * 3),
    # tags, comments, breaks, other scripts
    ("[a<lora:x:1>:b:3]", [("a", 3), ("b", 7)], [("b", 6)]),
    ("[a:b:3] # [c:d:5]", [("a ", 3), ("b ", 7)], [("b ", 6)]),
    ("[a # b\n:3]", [("", 3), ("a \n", 7)], [("a \n", 6)]),
    ("[a BREAK b:3]", [("", 3), ("a BREAK b", 7)], [("a BREAK b", 6)]),
    ("[猫:犬:0.5]", [("猫", 5), ("犬", 5)], [("犬", 6)]),
]

PARTS: list[tuple[str, list[tuple[str, float]]]] = [
    ("cat AND dog", [("cat ", 1), (" dog", 1)]),
    ("cat :1.2 AND dog :0.5", [("cat", 1.2), (" dog", 0.5)]),
    ("cat AND dog:2", [("cat ", 1), (" dog", 2)]),
    ("cat AND dog: -0.5 ", [("cat ", 1), (" dog", -0.5)]),
    ("cat AND dog :0", [("cat ", 1), (" dog", 0)]),
    ("cat AND dog :2.", [("cat ", 1), (" dog", 2)]),
    ("cat AND dog :.5", [("cat ", 1), (" dog", 0.5)]),
    ("cat AND dog :1e1", [("cat ", 1), (" dog :1e1", 1)]),
    ("cat AND (dog:1.2)", [("cat ", 1), (" dog", 1)]),
    ("cat AND (dog:1.2) :0.5", [("cat ", 1), (" dog", 0.5)]),
    ("cat AND a AND dog", [("cat ", 1), (" a ", 1), (" dog", 1)]),
    ("cat AND ", [("cat ", 1), (" ", 1)]),
    ("AND", [("", 1), ("", 1)]),
    ("cat AND :2", [("cat ", 1), ("", 2)]),
    ("(cat AND dog)", [("cat ", 1), (" dog)", 1)]),
    ("cat # AND dog", [("cat ", 1)]),
    ("cat <lora:AND:1> dog", [("cat  dog", 1)]),
    ("cat ANDY BAND and dog", [("cat ANDY BAND and dog", 1)]),
    ("cat,AND,dog", [("cat,", 1), (",dog", 1)]),
    ("cat\nAND\ndog :3\n", [("cat\n", 1), ("\ndog", 3)]),
    ("time: 10:30", [("time: 10:30", 1)]),
]


def words(part: Part) -> str:
    return "".join(piece.text for piece in part.pieces if piece)


@pytest.mark.parametrize(("text", "expected"), ATTENTION)
def test_attention(text: str, expected: str) -> None:
    (part,) = parse_prompt(text, 10).at(0)
    shown = [f"{piece.text}={piece.weight:.6g}" if piece else "BREAK" for piece in part.pieces]
    assert shown == (expected.split(" | ") if expected else [])


def shown_at_each_step(text: str, steps: int, after: int | None) -> list[tuple[str, ...]]:
    """What a person sees in the pieces; weights and escapes are read by then."""
    prompt = parse_prompt(text, steps, after=after)
    return [tuple(repr(part) for part in prompt.at(step)) for step in range(steps)]


@pytest.mark.parametrize(("text", "first", "second"), EDITING, ids=[row[0] for row in EDITING])
def test_editing_in_both_passes(text: str, first: list[tuple[str, int]], second: list[tuple[str, int]]) -> None:
    for runs, steps, after in ((first, 10, None), (second, 6, 10)):
        # A text that is read at a step means what it means where nothing is edited.
        wanted = [tuple(repr(part) for part in plain(said)) for said, times in runs for _ in range(times)]
        assert shown_at_each_step(text, steps, after) == wanted


def plain(text: str) -> tuple[Part, ...]:
    """The meaning of a text in which nothing is edited (any more)."""
    return (Part(_pieces(text, "original")),)


@pytest.mark.parametrize(("text", "expected"), PARTS)
def test_composition(text: str, expected: list[tuple[str, float]]) -> None:
    assert [(words(part), part.weight) for part in parse_prompt(text, 10).at(0)] == expected


def test_a_negative_prompt_reads_and_as_a_word() -> None:
    (part,) = parse_prompt("cat AND dog :0.5", 10, composes=False).at(0)
    assert words(part) == "cat AND dog :0.5"


def test_the_table_is_as_long_as_it_should_be() -> None:
    assert len(ATTENTION) + len(EDITING) + len(PARTS) >= 120


@pytest.mark.parametrize(
    ("text", "is_plain"),
    [
        ("a | b", True),
        ("[a|b]", False),
        ("[a|b:0.5]", True),
        ("a\\", True),
        ("a\\b", False),
        ("(a|b)", True),
        ("[a|(b|c)]", True),
        ("a [b:3]", False),
        (r"a \| b", False),
    ],
)
def test_a_text_that_no_rule_reads_is_known_as_such(text: str, is_plain: bool) -> None:
    assert parse_prompt(text, 10).is_plain is is_plain
