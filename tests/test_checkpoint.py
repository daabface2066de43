"""Reading, writing and refusal of checkpoints. No code in a file is executed."""

import json
import os
import pickle
import zipfile

import pytest
import torch
from safetensors.torch import load_file, save_file

from lightbsr.commands import main
from lightbsr.errors import UserError
from lightbsr.shipped import find_weights
from lightbsr_arch.archs import BlindSR
from lightbsr_arch.checkpoint import Checkpoint, convert, load


def network(scale: int = 2, teacher: bool = False) -> BlindSR:
    torch.manual_seed(0)
    estimator = {"type": "KDIDETeacher", "scale": scale} if teacher else {"type": "KDIDEStudent"}
    return BlindSR(
        {**estimator, "num_feat": 8, "num_block": 2},
        {"type": "IDRDCRBNet", "num_feat": 8, "num_block": 3, "scale": scale},
    ).eval()


def outputs_agree(one: BlindSR, other: BlindSR) -> bool:
    lq = torch.rand(1, 3, 8, 8)
    gt = [] if one.privileged is None else [torch.rand(1, 3, 8 * one.scale, 8 * one.scale)]
    return torch.equal(one(lq, *gt), other(lq, *gt))


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("teacher", [False, True], ids=["student", "teacher"])
def test_basicsr_pth(scale, teacher, tmp_path):
    net = network(scale, teacher)
    torch.save({"params": {"module." + key: value for key, value in net.state_dict().items()}}, tmp_path / "net.pth")
    checkpoint = convert(tmp_path / "net.pth", tmp_path / "net.safetensors")
    assert checkpoint.network == net.config
    assert outputs_agree(load(tmp_path / "net.safetensors"), net)
    assert outputs_agree(load(tmp_path / "net.pth"), net)


def test_the_moving_average_is_preferred(tmp_path):
    net, average = network(), network()
    torch.nn.init.ones_(average.restorer.tail.bias)
    torch.save({"params": net.state_dict(), "params_ema": average.state_dict()}, tmp_path / "net.pth")
    assert outputs_agree(load(tmp_path / "net.pth"), average)


def test_configuration_and_card_travel_with_the_weights(tmp_path):
    net = network()
    path = tmp_path / "net.safetensors"
    Checkpoint(net.state_dict(), net.config, {"data": "my photos"}).save(path)
    again = convert(path, tmp_path / "again.safetensors")
    assert again.card == {"data": "my photos"}
    assert again.network == net.config
    assert [file.name for file in sorted(tmp_path.iterdir())] == ["again.safetensors", "net.safetensors"]
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode  # the permissions are those of other files


def test_load_puts_the_network_where_it_is_asked_to(tmp_path):
    net = network()
    Checkpoint(net.state_dict(), net.config).save(tmp_path / "net.safetensors")
    loaded = load(tmp_path / "net.safetensors", dtype=torch.bfloat16)
    assert {p.dtype for p in loaded.parameters()} == {torch.bfloat16}
    assert not loaded.training


class Evil:
    def __reduce__(self):
        return exec, ("import pathlib; pathlib.Path('executed').touch()",)


class EvilShell:
    def __reduce__(self):
        return os.system, ("touch executed",)


def _write_bad(kind, path):
    """Write a file that is not a valid checkpoint. Return the expected text of the error."""
    net = network()
    state = net.state_dict()
    if kind == "missing":
        return "no such file"
    if kind == "empty":
        path.write_bytes(b"")
        return "no checkpoint, or one that is cut short"
    if kind == "text":
        path.write_text("hello\n" * 100)
        return "no checkpoint, or one that is cut short"
    if kind == "cut short":
        torch.save({"params": state}, path)
        path.write_bytes(path.read_bytes()[:-1000])
        return "no checkpoint, or one that is cut short"
    if kind == "code":
        torch.save({"params": state, "extra": Evil()}, path)
        return "holds more than tensors .*nothing was executed"
    if kind == "a shell command":
        torch.save({"params": state, "extra": EvilShell()}, path)
        return r"holds more than tensors \(posix.system\); not loaded, nothing was executed"
    if kind == "code in an old pickle":
        path.write_bytes(pickle.dumps(Evil(), protocol=2))
        return "holds more than tensors .*nothing was executed"
    if kind == "an object":
        torch.save(net, path)
        return r"holds more than tensors \(lightbsr_arch"
    if kind == "training state":
        torch.save({"epoch": 3, "iter": 100, "optimizers": [], "schedulers": []}, path)
        return "epoch is a int, expected a tensor; is this a training state"
    if kind == "a tensor":
        torch.save(torch.rand(3), path)
        return "expected named tensors, found Tensor"
    if kind == "another network":
        torch.save({"params": {"conv_first.weight": torch.rand(3), "body.0.weight": torch.rand(3)}}, path)
        return r"weights of no network of this package \(it holds conv_first.weight, body.0.weight"
    if kind == "a missing tensor":
        del state["restorer.after_body.bias"]
        torch.save({"params": state}, path)
        return r"1 weights do not fit BlindSR: restorer.after_body.bias \(wanted \(8,\), found none\)"
    if kind == "a mapping that holds itself":
        content = {}
        content["params"] = content
        torch.save(content, path)
        return "params is a dict, expected a tensor"
    if kind == "compressed":
        torch.save({"params": state}, path)
        with zipfile.ZipFile(path) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in entries.items():
                archive.writestr(name, data)
        return "a compressed archive"
    assert kind == "a wrong shape"
    state["restorer.tail.bias"] = torch.rand(4)
    torch.save({"params": state}, path)
    return r"1 weights do not fit BlindSR: restorer.tail.bias \(wanted \(3,\), found \(4,\)\)"


BAD = [
    "missing", "empty", "text", "cut short", "code", "a shell command", "code in an old pickle", "an object",
    "training state", "a tensor", "another network", "a missing tensor", "a wrong shape", "compressed",
    "a mapping that holds itself",
]  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_give_one_line_and_no_output(kind, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    said = _write_bad(kind, tmp_path / "bad.pth")
    with pytest.raises(UserError, match=said):
        load(tmp_path / "bad.pth") if kind != "missing" else convert("bad.pth", "out.safetensors")
    assert main(["convert", "bad.pth", "out.safetensors"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("lightbsr convert: bad.pth: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "out.safetensors").exists()
    assert not (tmp_path / "executed").exists()


def wrapped(kind: str, state: dict) -> dict:
    """Return a state dict as other programs save it."""
    if kind in ("params-ema", "state_dict", "model_state_dict", "net", "model", "net_g"):
        return {kind: state, "iter": 5}
    if kind == "one in another":
        return {"model_state_dict": {"params_ema": state}, "params": "none"}
    if kind == "AveragedModel":
        return {"n_averaged": torch.tensor(7), **{f"module.{key}": value for key, value in state.items()}}
    if kind == "a compiled part":
        return {key.replace("restorer.", "restorer._orig_mod."): value for key, value in state.items()}
    return {kind + key: value for key, value in state.items()}


@pytest.mark.parametrize(
    "kind",
    [
        *("params-ema", "state_dict", "model_state_dict", "net", "model", "net_g", "one in another"),
        *("_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module.module.", "a compiled part", "AveragedModel"),
    ],
)
def test_wrappers_and_prefixes_of_other_programs(kind, tmp_path):
    net = network()
    content = wrapped(kind, net.state_dict())
    torch.save(content, tmp_path / "net.pth")
    assert outputs_agree(load(tmp_path / "net.pth"), net)
    if all(isinstance(value, torch.Tensor) for value in content.values()):
        save_file(content, tmp_path / "net.safetensors")
        assert outputs_agree(load(tmp_path / "net.safetensors"), net)


def test_files_of_too_many_tensors_are_refused_at_once(tmp_path):
    many = {f"restorer.body.{i}.conv.weight": torch.zeros(0) for i in range(30_001)}
    save_file(many, tmp_path / "net.safetensors")
    with pytest.raises(UserError, match=r"net\.safetensors: holds 30001 tensors, no network has more than 30000"):
        load(tmp_path / "net.safetensors")


def test_a_name_with_and_without_a_prefix_is_refused(tmp_path):
    state = network().state_dict()
    torch.save({**state, "module.restorer.tail.bias": torch.ones(3)}, tmp_path / "net.pth")
    with pytest.raises(UserError, match="several tensors of one name"):
        load(tmp_path / "net.pth")


def test_tensors_that_share_memory_are_converted(tmp_path):
    state = network().state_dict()
    zeros = torch.zeros(8)
    for key in ("restorer.head.bias", "restorer.after_body.bias"):
        state[key] = zeros
    state["restorer.tail.bias"] = zeros[:3]
    torch.save(state, tmp_path / "net.pth")
    assert convert(tmp_path / "net.pth", tmp_path / "net.safetensors").state.keys() == state.keys()
    assert load_file(tmp_path / "net.safetensors")["restorer.tail.bias"].tolist() == [0, 0, 0]


def _spoil(value: torch.Tensor, kind: str) -> torch.Tensor:
    match kind:
        case "NaN" | "inf" | "-inf":
            value.view(-1)[3] = float(kind)
            return value
        case "too large for fp32":
            return torch.full_like(value, 1e300, dtype=torch.float64)
        case "meta":
            return value.to("meta")
        case "sparse":
            return value.to_sparse()
        case "quantised":
            return torch.quantize_per_tensor(value, 0.1, 0, torch.qint8)
        case "expanded":
            return value[:1].expand_as(value)
        case "expanded to gigabytes":
            return torch.zeros(1).expand(10**6, 10**6)
        case "overlapping":
            return torch.zeros(19).as_strided((8, 8, 3, 3), (1, 1, 1, 1))
        case "nested":
            return torch.nested.nested_tensor([value, value])
    return value.to(getattr(torch, kind))


@pytest.mark.filterwarnings("ignore::UserWarning")  # PyTorch's nested tensors are a prototype, and complex is cast
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        *((kind, "holds numbers that are not finite") for kind in ("NaN", "inf", "-inf", "too large for fp32")),
        *((kind, f"is of {kind}, expected floating-point numbers") for kind in ("int8", "uint8", "int64", "bool")),
        *((kind, f"is of {kind}, expected floating-point") for kind in ("complex64", "complex128", "float8_e4m3fn")),
        ("meta", "is on the meta device"),
        ("sparse", "is a sparse tensor"),
        ("quantised", "is a quantised tensor"),
        ("nested", "is a nested tensor"),
        ("expanded", r"repeats fewer numbers than its shape \(8, 8, 3, 3\) has"),
        ("expanded to gigabytes", "repeats fewer numbers"),
        ("overlapping", "repeats fewer numbers"),
    ],
)
def test_weights_that_are_no_finite_floats_are_refused(kind, said, tmp_path, capsys):
    key = "restorer.body.1.conv.weight"
    state = network().state_dict()
    state[key] = _spoil(state[key], kind)
    torch.save({"params": state}, tmp_path / "bad.pth")
    with pytest.raises(UserError, match=rf"^{tmp_path}/bad\.pth: {key} {said}"):
        load(tmp_path / "bad.pth")
    assert main(["convert", str(tmp_path / "bad.pth"), str(tmp_path / "out.safetensors")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["bad.pth"]
    if kind in ("NaN", "inf", "int8", "complex64"):
        save_file(state, tmp_path / "bad.safetensors", {"network": json.dumps(network().config), "card": "{}"})
        with pytest.raises(UserError, match=rf"bad\.safetensors: {key} {said}"):
            load(tmp_path / "bad.safetensors")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_of_other_sizes_are_taken(dtype, tmp_path):
    state = {key: value.to(dtype) for key, value in network().state_dict().items()}
    torch.save(state, tmp_path / "net.pth")
    loaded = load(tmp_path / "net.pth").state_dict()
    assert all(torch.equal(loaded[key], value.float()) for key, value in state.items())


def test_a_prior_that_was_not_fitted_is_no_damage(tmp_path):
    net = BlindSR({"type": "LightIDETeacher", "num_feat": 8}, {"type": "IDRDCRBNet", "num_feat": 32, "num_block": 1})
    torch.save(net.state_dict(), tmp_path / "net.pth")
    assert load(tmp_path / "net.pth").estimator.prior.fitted is False


@pytest.mark.parametrize("changes", [{"num_kernel_ch": 0, "num_noise_ch": 3}, {"prior": "published"}])
def test_every_argument_of_a_network_travels(changes, tmp_path):
    estimator = {"type": "LightIDETeacher", "num_feat": 8, **changes}
    net = BlindSR(estimator, {"type": "IDRDCRBNet", "num_feat": 32, "num_block": 1})
    Checkpoint(net.state_dict(), net.config).save(tmp_path / "net.safetensors")
    assert load(tmp_path / "net.safetensors").config == net.config


STORED = {
    "estimator": {"type": "KDIDEStudent", "num_feat": 8, "num_block": 2},
    "restorer": {"type": "IDRDCRBNet", "num_feat": 8, "num_block": 3, "scale": 2},
}
WRONG_NUMBERS = [-1, 0, 8.0, float("nan"), float("inf"), True, "8", None, [8], {}, 100, 10**9, 10**400]


def _stored(part: str, **changes: object) -> dict:
    return {**STORED, part: {**STORED[part], **changes}}


@pytest.mark.parametrize(
    ("network_text", "said"),
    [
        *((text, "metadata 'network' is no JSON object") for text in ("", "{", "null", "[1]", '"x"', "[" * 100_000)),
        ('{"a":' * 100_000, "metadata 'network' is no JSON object"),
        ("{}" + " " * 10**6, "metadata 'network' is no JSON object"),
        (json.dumps({}), "expected estimator and restorer, found nothing"),
        (json.dumps({**STORED, "load_path": "/x"}), "expected estimator and restorer, found estimator, restorer, load"),
        (json.dumps({**STORED, "estimator": [1]}), "the type of its estimator is None"),
        *(
            (json.dumps(_stored("restorer", type=name)), "expected LightBSRNet or CdCLNet or IDRDCRBNet or DASRNet")
            for name in ("SpyNet", "EDSR", "KDIDEStudent", "BlindSR", None, ["IDRDCRBNet"], 5, "x\ny" * 1000)
        ),
        (json.dumps(_stored("estimator", type="BlindSR")), "the type of its estimator is BlindSR"),
        *(
            (
                json.dumps({**STORED, "estimator": {"type": "LightIDETeacher", "prior": value}}),
                "expected standardised or published",
            )
            for value in ("raw", 1, None, ["published"])
        ),
        (json.dumps(_stored("restorer", load_path="/etc/hostname")), "IDRDCRBNet has no argument load_path"),
        *(
            (json.dumps(_stored("restorer", num_feat=value)), "num_feat of IDRDCRBNet is .*, expected a whole number")
            for value in WRONG_NUMBERS
        ),
        *(
            (
                json.dumps(_stored("estimator", max_norm=value)),
                "max_norm of KDIDEStudent is .*, expected a number above 0",
            )
            for value in (0, -1.0, float("inf"), float("nan"), True, "1")
        ),
        (json.dumps(_stored("restorer", num_block=43)), "num_block of IDRDCRBNet is 43, expected a whole .* 0 to 42"),
        (
            json.dumps(_stored("restorer", type="LightBSRNet", num_group=20, num_block=20)),
            "num_block 20 x num_group 20 of LightBSRNet are more blocks than the file has tensors for|no argument",
        ),
        (json.dumps(_stored("restorer", num_in_ch=1)), "restorer.head.weight .wanted .8, 1, 3, 3., found .8, 3, 3, 3."),
        (json.dumps(_stored("restorer", scale=5)), "its network cannot be built: "),
        (json.dumps(_stored("restorer", num_block=4)), "4 weights do not fit BlindSR: restorer.body.3"),
    ],
)
def test_a_stored_network_is_checked_before_it_is_built(network_text, said, tmp_path):
    path = tmp_path / "net.safetensors"
    save_file(network().state_dict(), path, {"network": network_text, "card": "{}"})
    with pytest.raises(UserError, match=said) as caught:
        load(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert text.isprintable()
    assert len(text) < 1000


@pytest.mark.parametrize("card", ["", "{", "[]", "null", "[" * 100_000])
def test_a_card_that_is_no_object_is_refused(card, tmp_path):
    save_file(network().state_dict(), tmp_path / "net.safetensors", {"network": json.dumps(STORED), "card": card})
    with pytest.raises(UserError, match="metadata 'card' is no JSON object"):
        load(tmp_path / "net.safetensors")


def test_a_cut_short_or_foreign_safetensors(tmp_path):
    net = network()
    path = tmp_path / "net.safetensors"
    Checkpoint(net.state_dict(), net.config).save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"net.safetensors: no safetensors file, or one that is cut short"):
        load(path)
    save_file({"a": torch.rand(2)}, path, {"network": json.dumps({"estimator": {"type": "Nothing"}, "restorer": {}})})
    with pytest.raises(UserError, match=r"net.safetensors: its network cannot be built"):
        load(path)


def test_the_command_says_what_it_wrote(tmp_path, capsys):
    net = network()
    torch.save({"params": net.state_dict()}, tmp_path / "net.pth")
    assert main(["convert", str(tmp_path / "net.pth"), str(tmp_path / "net.safetensors")]) == 0
    size = sum(p.numel() for p in net.parameters())
    assert f"KDIDEStudent(num_feat=8, num_block=2) + IDRDCRBNet(num_feat=8, num_block=3, scale=2), {size:,}" in (
        capsys.readouterr().out
    )
    assert load_file(tmp_path / "net.safetensors").keys() == net.state_dict().keys()
    assert main(["convert", str(tmp_path / "net.pth"), str(tmp_path / "net.pt")]) == 2
    assert "must be named .safetensors" in capsys.readouterr().err


def test_a_name_that_is_nothing():
    for name in ("kdsr_x9", "x" * 300, "~nobody-of-this-name/x.pth", "a\0b"):
        with pytest.raises(UserError, match=r": no such file, and no shipped weights of that name"):
            find_weights(name)
