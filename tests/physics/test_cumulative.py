"""Sums over cycles: closed forms of value and uncertainty, which regions are one, and what remains to limits."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from mrtai.physics.cumulative import cumulated, first_order_bed_sd_gy, summed, with_stated_sd
from mrtai.physics.radiobiology import bed_gy
from mrtai.values.cumulative import BED, DOSE, EQD2, CountedCycle, CycleRegion, Uncertain
from mrtai.values.protocol import CumulativeLimit
from mrtai.values.refusal import DosimetryError

KIDNEY_AB, G = 2.6, 0.0488
KIDNEYS = {"kidneys": CumulativeLimit(23.0, 40.0, "for the test")}


def region(name, dose_gy, *, kind="organ", uid=None, relative_sd=0.1, common=0.0, ab=None, members=()):
    if dose_gy is None:
        return CycleRegion(name, kind, members, uid, True, {})
    dose = Uncertain(dose_gy, relative_sd * dose_gy, common * dose_gy)
    values = {DOSE: dose}
    if ab is not None:
        bed, bed_sd = bed_gy(dose_gy, G, ab), first_order_bed_sd_gy(dose_gy, relative_sd * dose_gy, G, ab)
        values[BED] = with_stated_sd(bed, bed_sd, dose)
        values[EQD2] = with_stated_sd(bed / (1 + 2 / ab), bed_sd / (1 + 2 / ab), dose)
    return CycleRegion(name, kind, members, uid, False, values, alpha_beta_gy=ab)


def cycle(number, *regions, nuclide="Lu-177", state="signed", pseudonym="P-1", days=None, scans=None):
    at = datetime(2026, 1, 5, 9, tzinfo=UTC) + timedelta(days=56 * (number - 1) if days is None else days)
    return CountedCycle(pseudonym, number, state, False, nuclide, "X", 7.4e9, at, frozenset(scans or {f"{number}{nuclide}"}), regions)


def sum_of(found, name):
    (row,) = [row for row in found.regions if row.name == name]
    return row


def codes(row):
    return [flag.code for flag in row.flags]


def test_two_equal_cycles_double_what_is_common_and_add_the_rest_in_quadrature():
    one = Uncertain(4.0, 0.5, 0.3)  # own part 0.4
    total = summed([one, one])
    assert total.value_gy == 8.0 and total.common_sd_gy == pytest.approx(0.6)
    assert total.own_sd_gy == pytest.approx(0.4 * 2**0.5)
    assert total.sd_gy == pytest.approx((0.6**2 + 2 * 0.4**2) ** 0.5)


@pytest.mark.parametrize(("common", "factor"), [(0.5, 2.0), (0.0, 2**0.5)])
def test_the_uncertainty_of_two_equal_cycles_doubles_when_common_and_grows_by_root_two_when_independent(common, factor):
    assert summed([Uncertain(4.0, 0.5, common)] * 2).sd_gy == pytest.approx(factor * 0.5)


def test_a_sum_with_a_part_of_unknown_uncertainty_has_none():
    assert summed([Uncertain(4.0, 0.5), Uncertain(4.0, None)]).sd_gy is None


def test_of_the_stated_uncertainty_of_bed_as_much_is_common_as_of_the_doses():
    bed = with_stated_sd(6.2, 0.8, Uncertain(5.0, 0.5, 0.3))
    assert (bed.value_gy, bed.sd_gy, bed.common_sd_gy) == (6.2, 0.8, pytest.approx(0.6 * 0.8))
    # equal cycles, all of it in common: the sum is as uncertain as the cycles together
    assert summed([with_stated_sd(6.2, 0.8, Uncertain(5.0, 0.5, 0.5))] * 3).sd_gy == pytest.approx(3 * 0.8)
    assert with_stated_sd(6.2, None, Uncertain(5.0, None)).sd_gy is None


def test_the_uncertainty_of_a_bed_that_states_none_is_that_of_a_small_change_of_dose():
    small = 1e-4
    change = bed_gy(5.0 + small, G, KIDNEY_AB) - bed_gy(5.0, G, KIDNEY_AB)
    assert first_order_bed_sd_gy(5.0, small, G, KIDNEY_AB) == pytest.approx(change, rel=1e-4)


def test_bed_is_summed_per_cycle_and_is_not_the_bed_of_the_summed_dose():
    cycles = [cycle(n, region("kidneys", 5.0, ab=KIDNEY_AB)) for n in (1, 2, 3, 4)]
    total = sum_of(cumulated(cycles, {}, None), "kidneys").sums[BED].value_gy
    # 4 (5 + 0.0488 · 25 / 2.6) = 21.88; of 20 Gy at once it would be 27.5
    assert total == pytest.approx(4 * (5 + 0.0488 * 25 / 2.6))
    assert bed_gy(20.0, G, KIDNEY_AB) - total == pytest.approx(G * (20**2 - 4 * 5**2) / KIDNEY_AB)


def test_what_remains_is_the_limit_less_the_sum_with_the_sums_uncertainty():
    cycles = [cycle(n, region("kidneys", 6.0, ab=KIDNEY_AB, common=0.1)) for n in (1, 2)]
    dose, bed = sum_of(cumulated(cycles, KIDNEYS, "p"), "kidneys").limits
    assert dose.remaining_gy == pytest.approx(11.0) and dose.remaining_sd_gy == pytest.approx(1.2)
    assert bed.remaining_gy == pytest.approx(40 - 2 * bed_gy(6.0, G, KIDNEY_AB))
    assert (dose.exceeded, dose.next_exceeds, bed.exceeded, bed.next_exceeds) == (False, False, False, False)


@pytest.mark.parametrize(("per_cycle_gy", "code"), [(7.6, None), (7.7, "CUMULATIVE_LIMIT_NEXT_CYCLE"), (12.0, "CUMULATIVE_LIMIT_EXCEEDED")])
def test_a_limit_speaks_when_it_is_passed_and_when_one_more_mean_cycle_would_pass_it(per_cycle_gy, code):
    # 23 Gy are three cycles of 7.67 Gy
    cycles = [cycle(n, region("kidneys", per_cycle_gy)) for n in (1, 2)]
    limits = {"kidneys": CumulativeLimit(23.0, None, "for the test")}
    row = sum_of(cumulated(cycles, limits, "p"), "kidneys")
    assert codes(row) == ([code] if code else [])
    assert row.limits[0].remaining_gy == pytest.approx(23.0 - 2 * per_cycle_gy)


def test_each_kidney_and_each_estimate_of_the_marrow_has_the_limit_of_its_kind():
    rows = (region("kidney_left", 1.0), region("red_marrow_by_blood", 0.2, kind="marrow"), region("spleen", 3.0))
    limits = KIDNEYS | {"red_marrow": CumulativeLimit(2.0, None, "for the test")}
    found = cumulated([cycle(1, *rows)], limits, "p")
    assert [[limit.limit_gy for limit in row.limits] for row in found.regions] == [[23.0, 40.0], [2.0], []]


def test_a_limit_of_bed_without_bed_is_said_to_be_unjudged():
    row = sum_of(cumulated([cycle(1, region("kidneys", 5.0))], KIDNEYS, "p"), "kidneys")
    assert row.limits[1].remaining_gy is None and row.limits[1].exceeded is None
    assert codes(row) == ["CUMULATIVE_LIMIT_NOT_JUDGED"]


def test_a_withheld_cycle_takes_the_sum_away_and_is_named():
    found = cumulated([cycle(1, region("spleen", 5.0)), cycle(2, region("spleen", None))], {}, None)
    row = sum_of(found, "spleen")
    assert row.sums == {} and codes(row) == ["DOSE_WITHHELD"]
    assert "cycle 2 (2026-03-02)" in row.flags[0].text and "cycle 1" not in row.flags[0].text


def test_a_region_missing_in_a_cycle_is_summed_over_the_others_and_the_gap_is_named():
    found = cumulated([cycle(1, region("spleen", 5.0)), cycle(2, region("liver", 1.0)), cycle(3, region("spleen", 4.0))], {}, None)
    row = sum_of(found, "spleen")
    assert row.sums[DOSE].value_gy == 9.0 and codes(row) == ["NOT_IN_EVERY_CYCLE"]
    assert "cycle 2" in row.flags[0].text
    assert [position for position, _ in row.parts] == [0, 2]


def test_a_cycle_without_bed_takes_the_bed_away_but_not_the_dose():
    found = cumulated([cycle(1, region("kidneys", 5.0, ab=2.6)), cycle(2, region("kidneys", 5.0))], {}, None)
    row = sum_of(found, "kidneys")
    assert set(row.sums) == {DOSE} and codes(row) == ["BED_MISSING"] and "cycle 2" in row.flags[0].text


def test_beds_of_different_alpha_beta_are_not_added():
    found = cumulated([cycle(1, region("kidneys", 5.0, ab=2.6)), cycle(2, region("kidneys", 5.0, ab=3.0))], {}, None)
    row = sum_of(found, "kidneys")
    assert set(row.sums) == {DOSE} and codes(row) == ["ALPHA_BETA_DIFFERS"] and "2.6, 3" in row.flags[0].text


def test_lesions_are_one_by_tracking_uid_whatever_their_names():
    first = cycle(1, region("lesion_1", 30.0, kind="lesion", uid="1.2.A"), region("lesion_2", 10.0, kind="lesion", uid="1.2.B"))
    second = cycle(2, region("lesion_1", 9.0, kind="lesion", uid="1.2.B"), region("lesion_2", 20.0, kind="lesion", uid="1.2.A"))
    found = cumulated([first, second], {}, None)
    assert {row.tracking_uid: row.sums[DOSE].value_gy for row in found.regions} == {"1.2.A": 50.0, "1.2.B": 19.0}
    assert all(codes(row) == [] for row in found.regions)


def test_lesions_without_tracking_uid_are_one_by_name_and_that_is_flagged():
    first = cycle(1, region("lesion_1", 30.0, kind="lesion"), region("lesion_2", 30.0, kind="lesion", uid="1.2.A"))
    second = cycle(2, region("lesion_1", 20.0, kind="lesion", uid="1.2.C"), region("lesion_2", 5.0, kind="lesion", uid="1.2.B"))
    found = cumulated([first, second], {}, None)
    sums = sorted((row.sums[DOSE].value_gy, tuple(codes(row))) for row in found.regions)
    # lesion_2 has another UID each time: two lesions, each missing in one cycle
    assert sums == [(5.0, ("NOT_IN_EVERY_CYCLE",)), (30.0, ("NOT_IN_EVERY_CYCLE",)), (50.0, ("LESION_IDENTITY_BY_NAME",))]


def test_a_name_does_not_take_the_place_of_a_tracking_uid():
    first = cycle(1, region("lesion_1", 30.0, kind="lesion", uid="1.2.A"))
    second = cycle(2, region("lesion_1", 1.0, kind="lesion"), region("lesion_7", 20.0, kind="lesion", uid="1.2.A"))
    found = cumulated([first, second], {}, None)
    assert sorted(row.sums[DOSE].value_gy for row in found.regions) == [1.0, 50.0]


def test_what_is_in_view_is_not_summed():
    found = cumulated([cycle(1, region("body", 1.0, kind="body"), region("remainder", 1.0, kind="remainder"))], {}, None)
    assert found.regions == ()


def test_a_union_of_other_members_is_flagged():
    first = cycle(1, region("tumour_total", 5.0, kind="union", members=("lesion_1",)))
    second = cycle(2, region("tumour_total", 5.0, kind="union", members=("lesion_1", "lesion_2")))
    assert codes(sum_of(cumulated([first, second], {}, None), "tumour_total")) == ["MEMBERS_DIFFER"]


def test_two_nuclides_are_added_and_shown_one_by_one():
    found = cumulated([cycle(1, region("liver", 5.0)), cycle(2, region("liver", 40.0), nuclide="Y-90")], {}, None)
    row = sum_of(found, "liver")
    assert {nuclide: sums[DOSE].value_gy for nuclide, sums in row.by_nuclide.items()} == {"Lu-177": 5.0, "Y-90": 40.0}
    assert row.sums[DOSE].value_gy == 45.0 and [flag.code for flag in found.flags] == ["NUCLIDES_DIFFER"]


def test_a_withheld_cycle_of_one_nuclide_leaves_the_others_sum():
    found = cumulated([cycle(1, region("liver", 5.0)), cycle(2, region("liver", None), nuclide="Y-90")], {}, None)
    row = sum_of(found, "liver")
    assert row.sums == {} and row.by_nuclide["Lu-177"][DOSE].value_gy == 5.0 and row.by_nuclide["Y-90"] == {}


def test_cycles_come_in_order_of_time_and_a_draft_makes_the_sum_provisional():
    found = cumulated([cycle(2, region("liver", 5.0), state="draft"), cycle(1, region("liver", 4.0))], {}, None)
    assert [c.number for c in found.cycles] == [1, 2] and found.provisional
    assert [flag.code for flag in found.flags] == ["DRAFTS_COUNTED"]
    assert not cumulated([cycle(1, region("liver", 5.0), state="released")], {}, None).provisional


def test_different_patients_are_refused():
    with pytest.raises(DosimetryError) as refusal:
        cumulated([cycle(1), cycle(2, pseudonym="P-2")], {}, None)
    assert refusal.value.code == "PATIENT_MIXED" and "P-2" not in str(refusal.value)


@pytest.mark.parametrize("other", [cycle(2, days=0.0), cycle(2, scans={"1Lu-177"}), replace(cycle(2), at=datetime(2026, 1, 5, 9))])
def test_one_administration_twice_is_refused_by_its_time_and_by_its_scans(other):
    with pytest.raises(DosimetryError) as refusal:
        cumulated([cycle(1), other], {}, None)
    assert refusal.value.code == "SAME_ADMINISTRATION"


def test_two_nuclides_given_at_one_time_are_two_administrations():
    assert len(cumulated([cycle(1), cycle(1, nuclide="Y-90")], {}, None).cycles) == 2


def test_administrations_of_neighbouring_days_are_flagged():
    assert [flag.code for flag in cumulated([cycle(1), cycle(2, days=2)], {}, None).flags] == ["ADMINISTRATIONS_CLOSE"]


def test_an_unknown_make_up_of_the_uncertainty_counts_as_common_and_is_said():
    one = replace(region("liver", 4.0, common=0.1), correlation_assumed=True)
    row = sum_of(cumulated([cycle(1, one), cycle(2, one)], {}, None), "liver")
    assert row.sums[DOSE].sd_gy == pytest.approx(0.8) and codes(row) == ["CORRELATION_ASSUMED"]
