from __future__ import annotations

import json
from random import Random

import pytest
from optuna.distributions import CategoricalDistribution

from allocator.core.allocation import Allocation, Budget, Choice, Scheme
from allocator.core.errors import BudgetError, SpecError
from allocator.core.pins import Pins
from allocator.core.spec import Linear, ModelSpec, build_groups
from allocator.space.model import KeptSpace, ModelSpace, within_name

CHOICES = (
    *(Choice(2, "uniform"), Choice(2, "awq"), Choice(4, "uniform"), Choice(4, "awq")),
    Choice(16),
)
# every group at 2 bits: 98,304 weights in 24,576 bytes, 1,248 rows with a scale of 2
# bytes each and 312 bytes of zero-points in all, 16 bytes for each of 11 linears
SMALLEST = 24_576 + 2_496 + 312 + 176
# what stays at 16 bit: 4,096 parameters
REST = 8_192


def space(spec: ModelSpec, budget: Budget) -> ModelSpace:
    return ModelSpace(spec, Scheme(), CHOICES, budget)


def test_the_smallest_allocation_fits_the_smallest_budget(toy: ModelSpec) -> None:
    least = space(toy, Budget(SMALLEST + REST, "bytes"))
    assert least.fits(least.smallest)
    assert least.bytes(least.smallest) == SMALLEST
    assert least.room == pytest.approx(SMALLEST)


def test_a_budget_below_the_smallest_allocation_says_what_is_possible(
    toy: ModelSpec,
) -> None:
    # (27,560 + 8,192) x 8 / 102,400 bits, rounded up
    with pytest.raises(
        BudgetError,
        match=r"2\.7900 bpw .* is below .* 2\.7932 bpw \(35,752 .*model .* 2/uniform",
    ):
        space(toy, Budget(2.79))
    # 27,560 x 8 / 98,304 bits
    with pytest.raises(
        BudgetError, match=r"2\.0000 bpw .* 2\.2429 bpw \(27,560 bytes; quantized"
    ):
        space(toy, Budget(2, scope="quantized"))


def test_the_room_leaves_out_what_no_group_decides(toy: ModelSpec) -> None:
    # 4 bits of 102,400 parameters, or of 98,304 weights, in bytes
    assert space(toy, Budget(4.0)).room == pytest.approx(51_200 - REST)
    assert space(toy, Budget(4.0, scope="quantized")).room == pytest.approx(49_152)


def test_group_bytes_are_those_of_its_linears_at_each_width(toy: ModelSpec) -> None:
    found = space(toy, Budget(16.0)).group_bytes
    # two of 96 x 96: codes, 96 scales of 2 bytes, 96 zero-points, 16 bytes
    assert found["language.all.attn"] == {
        2: 2 * (2_304 + 192 + 24 + 16),
        4: 2 * (4_608 + 192 + 48 + 16),
        16: 2 * 18_432,
    }
    assert list(found) == list(toy.keys)


def test_bytes_of_the_groups_are_the_quantized_size(toy: ModelSpec) -> None:
    whole = space(toy, Budget(16.0))
    changes = {"vision.end.ff": Choice(4, "awq"), "connector.all.all": Choice(16)}
    allocation = whole.smallest.replace(changes)
    assert whole.bytes(allocation) == whole.size(allocation).quantized_bytes
    # 128 x 64 from 2 to 4 bits: 2,048 bytes of codes and 32 of zero-points more;
    # 96 x 64 from 2 bits (1,536 + 192 + 24 + 16) to 16 (12,288)
    assert whole.bytes(allocation) == SMALLEST + 2_080 + 10_520


def test_bpw_is_in_the_scope_of_the_budget(toy: ModelSpec) -> None:
    model = space(toy, Budget(16.0))
    groups = space(toy, Budget(16.0, scope="quantized"))
    assert model.bpw(model.smallest) == pytest.approx(2.793_125)
    assert groups.bpw(groups.smallest) == pytest.approx(220_480 / 98_304)


def test_uniform_allocations_are_every_width_and_method_below_sixteen(
    toy: ModelSpec,
) -> None:
    found = space(toy, Budget(16.0))
    assert [a[toy.keys[0]] for a in found.uniform] == list(CHOICES[:-1])
    assert all(len({choice for _, choice in a}) == 1 for a in found.uniform)
    assert {choice for _, choice in found.full} == {Choice(16)}


def test_widths_rise_and_hold_their_methods(toy: ModelSpec) -> None:
    found = space(toy, Budget(16.0))
    assert found.widths == (2, 4, 16)
    assert found.by_width[4] == [Choice(4, "uniform"), Choice(4, "awq")]


def test_optuna_sees_one_category_for_each_group(toy: ModelSpec) -> None:
    labels = ("2/uniform", "2/awq", "4/uniform", "4/awq", "16")
    found = space(toy, Budget(16.0)).distributions
    assert found == {key: CategoricalDistribution(labels) for key in toy.keys}


def test_an_allocation_survives_being_parameters(toy: ModelSpec) -> None:
    found = space(toy, Budget(16.0))
    allocation = found.smallest.replace(
        {"vision.end.ff": Choice(4, "awq"), "connector.all.all": Choice(16)}
    )
    params = found.params(allocation)
    assert params["vision.end.ff"] == "4/awq"
    assert params["connector.all.all"] == "16"
    # a storage may hand parameters back in another order
    assert found.allocation(dict(reversed(params.items()))) == allocation


def test_an_allocation_fits_to_the_byte(toy: ModelSpec) -> None:
    allocation = Allocation.uniform(toy, Choice(4, "awq"))
    # 49,152 of codes, 2,496 of scales, 624 of zero-points, 176 of bookkeeping
    assert space(toy, Budget(52_448 + REST, "bytes")).fits(allocation)
    assert not space(toy, Budget(52_447 + REST, "bytes")).fits(allocation)


@pytest.mark.parametrize(
    "budget",
    [
        Budget(4.0),
        Budget(4.0, scope="quantized"),
        Budget(48_000, "bytes"),
        Budget(48_000, "bytes", "quantized"),
        Budget(SMALLEST + REST, "bytes"),
        Budget(16.0),
    ],
    ids=str,
)
def test_a_space_as_a_study_keeps_it_is_the_models(
    toy: ModelSpec, budget: Budget
) -> None:
    model = space(toy, budget)
    # through a file and back, as in a study
    kept = KeptSpace(json.loads(json.dumps(model.costs)), budget)
    assert kept.keys == model.keys
    assert kept.choices == model.choices
    assert kept.uniform == model.uniform
    assert kept.full == model.full
    assert kept.room == model.room
    assert kept.group_bytes == model.group_bytes
    assert kept.distributions == model.distributions
    random, fitting = Random(0), 0
    for _ in range(300):
        # from nearly all narrow to anything, so that about half fit
        wide = random.random()
        picks = {
            key: random.choice(CHOICES if random.random() < wide else CHOICES[:2])
            for key in toy.keys
        }
        allocation = model.full.replace(picks)
        assert kept.bytes(allocation) == model.bytes(allocation)
        assert kept.bpw(allocation) == pytest.approx(model.bpw(allocation), rel=1e-12)
        assert kept.fits(allocation) == model.fits(allocation)
        fitting += kept.fits(allocation)
    assert 0 < fitting <= 300


def test_to_fit_is_to_the_byte_in_a_study_too(toy: ModelSpec) -> None:
    for limit, fits in ((52_448, True), (52_447, False)):
        for scope, rest in (("model", REST), ("quantized", 0)):
            budget = Budget(limit + rest, "bytes", scope)
            model = space(toy, budget)
            allocation = Allocation.uniform(toy, Choice(4, "awq"))
            assert KeptSpace(model.costs, budget).fits(allocation) is fits
            assert model.fits(allocation) is fits


def test_what_is_no_choice_does_not_fit_however_wide_the_budget(toy: ModelSpec) -> None:
    roomy = space(toy, Budget(99.0))
    assert roomy.fits(roomy.full)
    narrow = ModelSpace(toy, Scheme(), CHOICES[:-1], Budget(99.0))
    assert not narrow.fits(narrow.full)
    assert not narrow.fits(narrow.smallest.replace({toy.keys[0]: Choice(16)}))
    assert not narrow.fits(narrow.smallest.replace({toy.keys[0]: Choice(8, "awq")}))
    assert narrow.fits(narrow.uniform[-1])


LOW = CHOICES[:-1]
PINS = Pins(("vision.*=16", "language.all.ff=4/awq"), at_least=("connector.*=4",))


def pinned(spec: ModelSpec, budget: Budget, pins: Pins = PINS) -> ModelSpace:
    """Two and four bits by two methods; sixteen where pinned alone."""
    return ModelSpace(spec, Scheme(), LOW, budget, pins)


def test_the_smallest_allocation_has_what_pins_leave(toy: ModelSpec) -> None:
    found = pinned(toy, Budget(16.0))
    chosen = dict(found.smallest.choices)
    assert {str(c) for key, c in chosen.items() if key.startswith("vision")} == {"16"}
    assert chosen["language.all.ff"] == Choice(4, "awq")
    assert chosen["connector.all.all"] == Choice(4, "uniform")
    assert chosen["language.all.attn"] == Choice(2, "uniform")
    assert found.fits(found.smallest)
    assert not found.fits(found.full)
    widest = dict(found.widest.choices)
    assert widest["language.all.attn"] == widest["connector.all.all"] == LOW[-1]
    for key, choice in (("vision.end.ff", LOW[-1]), ("language.all.ff", LOW[-2])):
        assert not found.fits(found.smallest.replace({key: choice}))
        assert not found.keeps_pins(found.smallest.replace({key: choice}))
    assert found.keeps_pins(found.smallest.replace({"language.all.attn": LOW[-1]}))


def test_pins_are_part_of_the_budgets_arithmetic(toy: ModelSpec) -> None:
    size = pinned(toy, Budget(16.0)).group_bytes
    # vision at 16 bits is two bytes a weight
    weights = {group.key: group.weights for group in toy.groups}
    vision = [key for key in toy.keys if key.startswith("vision")]
    least = 2 * sum(weights[key] for key in vision)
    least += size["language.all.ff"][4] + size["connector.all.all"][4]
    least += size["language.all.attn"][2]
    assert pinned(toy, Budget(least + REST, "bytes")).smallest
    with pytest.raises(BudgetError) as refused:
        pinned(toy, Budget(least + REST - 1, "bytes"))
    said = str(refused.value)
    assert "smallest possible under the pins vision.*=16, language.all.ff=4/awq" in said
    assert "connector.* at least 4" in said
    assert f"({least + REST:,} bytes; model scope" in said


def test_uniform_allocations_are_so_wherever_no_pin_decides(toy: ModelSpec) -> None:
    found = pinned(toy, Budget(16.0))
    assert [found.uniform_choice(each) for each in found.uniform] == list(LOW)
    for uniform, choice in zip(found.uniform, LOW, strict=True):
        own = dict(uniform.choices)
        assert own["vision.front.attn"] == Choice(16)
        assert own["language.all.ff"] == Choice(4, "awq")
        # no fewer than four bits, by the same method
        assert own["connector.all.all"] == Choice(4, choice.method)
        assert own["language.all.attn"] == choice
    assert found.uniform[0] == found.smallest


def test_equal_uniform_allocations_are_one_named_by_what_they_have(
    toy: ModelSpec,
) -> None:
    found = pinned(toy, Budget(16.0), Pins(("vision.*=16",), ("*=4",)))
    assert [str(found.uniform_choice(each)) for each in found.uniform] == [
        *("4/uniform", "4/awq")
    ]
    same = pinned(toy, Budget(16.0), Pins(("*=4/awq",)))
    (only,) = same.uniform
    assert (only, same.uniform_choice(only)) == (same.alike(LOW[-1]), LOW[-1])


def test_pins_that_leave_nothing_to_quantize_are_refused(toy: ModelSpec) -> None:
    for pins in (Pins(("*=16",)), Pins(("vision.*=16",), ("[cl]*=16",))):
        with pytest.raises(SpecError, match="that is full precision, which `allocate"):
            pinned(toy, Budget(16.0), pins)


def test_pins_have_one_name_however_they_are_spelt(toy: ModelSpec) -> None:
    def name(*pin: str, **bounds: tuple[str, ...]) -> str:
        return within_name(pinned(toy, Budget(16.0), Pins(pin, **bounds)))

    plain = within_name(ModelSpace(toy, Scheme(), LOW, Budget(16.0)))
    # what rules nothing out is no pin
    assert name() == name(at_least=("*=2",), at_most=("*=16",)) == plain
    assert name("vision.*=16") == name("vision.*.ff=16", "vision.*.attn=16") != plain
    assert name("*=4", at_most=("*=8",)) == name(at_least=("*=4",))
    assert len({name(), name("vision.*=16"), name("vision.*=4"), name("*.ff=4")}) == 4


def test_a_study_keeps_the_space_and_its_pins_apart(toy: ModelSpec) -> None:
    budget = Budget(12.0)
    model = pinned(toy, budget)
    free = ModelSpace(toy, Scheme(), LOW, budget)
    # another search may pin otherwise: what a study keeps is the same
    assert model.costs == free.costs
    kept = KeptSpace(json.loads(json.dumps(model.costs)), budget, PINS)
    assert kept.allowed == model.allowed
    assert (kept.uniform, kept.smallest) == (model.uniform, model.smallest)
    assert within_name(kept) == within_name(model) != within_name(free)
    assert kept.distributions == free.distributions


def test_single_linears_have_a_space_of_their_own(toy: ModelSpec) -> None:
    pins = Pins(pin=("vision.front.*=16",))
    coarse = ModelSpace(toy, Scheme(), CHOICES, Budget(6.0), pins)
    fine = coarse.by_linear()
    assert fine.room == coarse.room
    assert fine.keys == tuple(f"{x.component}.{x.name}" for x in toy.linears)
    assert fine.allowed["vision.vision.0.ff"] == (Choice(16),)
    assert fine.allowed["vision.vision.1.ff"] == CHOICES
    assert fine.bytes(fine.smallest) == coarse.bytes(coarse.smallest)
    one = fine.smallest.replace({"language.language.1.ff": Choice(4, "awq")})
    found = fine.coarsened(one)
    assert found.layers == (("language.1.ff", Choice(4, "awq")),)
    assert coarse.bytes(found) == fine.bytes(one) > coarse.bytes(coarse.smallest)
    assert coarse.fits(found)
    assert coarse.bpw(found) == fine.bpw(one)


def test_exceptions_count_and_keep_the_pins(toy: ModelSpec) -> None:
    pins = Pins(pin=("vision.front.*=16",))
    tight = ModelSpace(toy, Scheme(), CHOICES, Budget(4.5), pins)
    assert tight.fits(tight.smallest)
    assert not tight.fits(tight.smallest.but({"language.0.ff": Choice(16)}))
    against = tight.smallest.but({"vision.0.ff": Choice(2, "awq")})
    assert not tight.fits(against)
    assert not tight.keeps_pins(against)
    kept = KeptSpace(json.loads(json.dumps(tight.costs)), Budget(4.5), pins)
    with pytest.raises(SpecError, match="1 single linears differ"):
        kept.fits(against)


def test_a_target_keeps_together_what_it_fuses() -> None:
    names = ["q_proj", "k_proj", "v_proj", "o_proj"]
    linears = [Linear(f"language.{n}", "language", 0, "attn", 64, 64) for n in names]
    spec = ModelSpec("toy", 20_000, build_groups(linears), ())
    choices = (Choice(4, "gptq"), Choice(8, "gptq"), Choice(16))

    def keys(target: str) -> int:
        scheme = Scheme(64, symmetric=True, target=target)
        return len(ModelSpace(spec, scheme, choices, Budget(16)).by_linear().keys)

    assert (keys("vllm"), keys("transformers")) == (2, 4)
