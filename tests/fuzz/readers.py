"""Every reader of something from outside, and files that it reads: the small ones."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from allocator.bench.contents import Contents
from allocator.bench.imports import imported, is_plan
from allocator.bench.sums import SUMS, check_sums, write_sums
from allocator.core.allocation import FULL, Allocation, Choice, Scheme
from allocator.core.plan import Plan, plan_json
from allocator.core.spec import LeftOut, ModelSpec, build_groups
from allocator.core.study import StudySpec
from allocator.exporters._place import CARD, MARK, check_place
from allocator.families._prompts import PROMPTS_FILE, read_prompts
from allocator.families._wording import has_switch
from allocator.space.csv_file import read_csv
from allocator.space.table import TableSpace, read_table
from allocator.tables.oracle import Oracle
from tests.bench.imported import llava
from tests.bench.imported.test_readers import RECIPE
from tests.conftest import toy_linears

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

Q = f"{llava.TEXT}.0.self_attn.q_proj"
PUBLISHED = {"vqa": "Question: {} Answer:", "caption": "a photo of", "plain": "{}"}
TABLE = "".join(f"{a},{b},3,{4 + a / 8},{60 + a + b}\n" for a in (2, 4) for b in (4, 8))


@dataclass(frozen=True)
class Reader:
    """What is read: its name, and what makes seeds and a reading of bytes in a folder.

    `often` says that it is quick enough for a thousand inputs in every run, `drawn`
    that its inputs are names of what it draws itself.
    """

    name: str
    made: Callable[[Path], tuple[Sequence[bytes], Callable[[bytes], object]]]
    often: bool = True
    drawn: bool = False


def as_json(*values: Any) -> list[bytes]:
    return [json.dumps(value).encode() for value in values]


def toy() -> ModelSpec:
    head = LeftOut("head", 32 * 96, "the output layer stays as it is")
    return ModelSpec("toy", 102_400, build_groups(toy_linears()), (head,))


def plans(folder: Path) -> Any:
    spec, file = toy(), folder / "plan.json"
    asked = StudySpec("4.0", "vqav2", pin=("vision.*=8",))
    whole = plan_json(asked, spec, _mixed(spec), "0123456789abcdef")
    bare = {"model": "toy", "groups": {key: {"bits": 16} for key in spec.keys}}

    def read(content: bytes) -> object:
        file.write_bytes(content)
        plan = Plan.read(file)
        _ = plan.methods, plan.widths, is_plan(file)
        return plan.allocation(spec)

    return as_json(whole, bare), read


def _mixed(spec: ModelSpec) -> Any:
    choices = (Choice(4, "gptq"), Choice(8, "awq"), Choice(FULL))
    groups = {key: choices[at % 3] for at, key in enumerate(spec.keys)}
    own = Allocation.of(spec.keys, groups)
    return own.but({"language.0.attn": Choice(3, "gptq")})


def files_of_other_tools(folder: Path) -> Any:
    spec, file = llava.spec(), folder / "given"
    weights = {"num_bits": 4, "type": "int", "symmetric": True, "group_size": 128}
    group = {"targets": ["re:.*mlp.*", Q], "weights": weights}
    compressed = {"config_groups": {"group_0": group}, "ignore": ["lm_head"]}
    seeds = as_json(
        {Q: {"bits": 3, "group_size": 128, "sym": False, "data_type": "int"}},
        {"mlp.fc1": {"bits": 2}, ".*layers.1.*proj$": {"bits": 5}},
        {"quantization_config": {"quant_method": "auto-round", "bits": 4, "sym": True,
            "block_name_to_quantize": "model.language_model.layers",
            "extra_config": {Q: {"bits": 8}, ".*down_proj.*": {"bits": 16}}}},
        {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True,
            "dynamic": {"+:.*down.*": {"bits": 8}, "-:.*up.*": {}}},
        {"quantization_config": {"quant_method": "compressed-tensors", **compressed}},
        {"quantization": {"quant_algo": "MIXED_PRECISION", "quantized_layers": {
            Q: {"quant_algo": "W4A16_AWQ", "group_size": 128}}}},
        {"quant_cfg": {"*weight_quantizer": {"num_bits": 4}, "default": {}}},
    )  # fmt: skip
    seeds += [RECIPE.encode(), f"{Q}: 4\n{llava.TEXT}.1.mlp.up_proj: 3.0".encode()]

    def read(content: bytes) -> object:
        file.write_bytes(content)
        return is_plan(file) or imported(file, spec, Scheme())

    return seeds, read


def tables(folder: Path) -> Any:
    file = folder / "table.csv"
    header = "vision_bits,language_bits,connector_bits,bpw,score\n"
    plain = header + TABLE
    semicolons = plain.replace(",", ";").replace(".", ",")
    seeds = [each.encode() for each in (plain, semicolons, f"sep=;\n{semicolons}")]
    seeds += [plain.encode("utf-16"), plain.replace("60", '"6e1"').encode("utf-8-sig")]

    def read(content: bytes) -> object:
        file.write_bytes(content)
        sheet = read_csv(file, ("score", "bpw"), None)
        space = TableSpace(read_table(file, "score", "bpw"), 16.0)
        oracle = Oracle(space, 2)
        for row in [a for a in space.rows if space.fits(a)][:2]:
            oracle.read(row)
        return sheet

    return seeds, read


def specs(folder: Path) -> Any:
    file = folder / "study.toml"
    seeds = (
        'budget = "4.0"\ntask = "vqav2"\nmethods = ["gptq", "awq"]\nwidths = [3, 4]\n',
        'front = true\ntask = "own"\ndata = "a.csv"\ncolumns = ["question=prompt"]\n'
        'pin = ["vision.*=8/gptq"]\nat_least = ["language.*=3"]\ngroup_size = 64\n',
        'min_score = 0.98\nconfidence = 0.9\ntask = "a+b"\nseconds = 9.5\nseed = 3\n'
        'cache_memory = "2GiB"\nbudget_scope = "quantized"\nprompt = "{question}"\n',
    )

    def read(content: bytes) -> object:
        file.write_bytes(content)
        return StudySpec.from_toml(file, {}).to_json()

    return [seed.encode() for seed in seeds], read


def prompts(folder: Path) -> Any:
    file = folder / PROMPTS_FILE

    def read(content: bytes) -> object:
        file.write_bytes(content)
        return read_prompts(folder, PUBLISHED)

    seeds = as_json({"vqa": "Q: {} A:"}, {"caption": "a picture of", "plain": "{}"})
    return seeds, read


def checksums(folder: Path) -> Any:
    model = folder / "model.safetensors"
    model.write_bytes(b"weights")
    write_sums(folder)
    seed = (folder / SUMS).read_bytes()

    def read(content: bytes) -> object:
        (folder / SUMS).write_bytes(content)
        contents = Contents()
        contents.known = {}
        contents.memory = folder / "memory"
        check_sums(folder, [model], contents)
        return True

    return [seed], read


def cards(folder: Path) -> Any:
    out = folder / "out"
    out.mkdir()

    def read(content: bytes) -> object:
        (out / CARD).write_bytes(content)
        check_place(out, force=True)
        return True

    return [f"# A model\n{MARK}\n".encode()], read


def templates(folder: Path) -> Any:
    def read(content: bytes) -> object:
        (folder / "chat_template.jinja").write_bytes(content)
        return has_switch(folder)

    return [b"{% if enable_thinking %}a{% endif %}"], read


def memories(folder: Path) -> Any:
    """What is only remembered: damaged, it is as if it was not there."""
    from allocator.bench.contents import recalled, remember

    file = folder / "contents"
    remember(file, {"1:2:3:4:5": "0" * 32})

    def read(content: bytes) -> object:
        file.write_bytes(content)
        return recalled(file) is not None

    return [file.read_bytes()], read


READERS = tuple(
    Reader(made.__name__.replace("_", " "), made)
    for made in (
        *(plans, files_of_other_tools, tables, specs, prompts, checksums, cards),
        *(templates, memories),
    )
)
