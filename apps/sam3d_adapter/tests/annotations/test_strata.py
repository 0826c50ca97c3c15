"""Cases by structure: each once, rare structures by themselves."""

from dataclasses import dataclass

from lib.annotations.strata import MOST_STRATA, strata, structures_of


@dataclass(frozen=True)
class Case:
    number: int
    names: tuple[str, ...]


def numbers(cases: list[Case]) -> dict[str, list[int]]:
    return {name: [case.number for case in found] for name, found in strata(cases).items()}  # type: ignore[arg-type]


def test_a_case_counts_for_its_rarest_structure() -> None:
    cases = [Case(n, ("Liver",)) for n in range(5)] + [Case(5, ("liver", "tumour 2")), Case(6, ("Tumour",))]
    assert numbers(cases) == {"liver": [0, 1, 2, 3, 4], "tumour": [5, 6]}
    assert structures_of(cases[5]) == {"liver", "tumour"}  # type: ignore[arg-type]
    assert numbers(cases[:5]) == {"liver": [0, 1, 2, 3, 4]} and numbers([]) == {}


def test_the_smallest_are_put_together() -> None:
    many = [Case(10 * n + k, (f"part {chr(97 + n)}",)) for n in range(MOST_STRATA) for k in range(n + 1)]
    assert "" not in numbers(many)
    found = numbers([*many, Case(999, ("odd",))])
    assert len(found) == MOST_STRATA and found[""] == [0, 999]
    assert sorted(sum(found.values(), [])) == sorted(case.number for case in [*many, Case(999, ())])
