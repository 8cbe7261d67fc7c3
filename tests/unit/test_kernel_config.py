# SPDX-License-Identifier: Apache-2.0
"""Configurations: what is asked must be there, and the drivers of the hosts too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests import kernel_fake

from zclab.base.errors import InvalidError, UsageError
from zclab.base.paths import project_root
from zclab.kernel import config, drivers
from zclab.kernel.drivers import Requirement
from zclab.kernel.spec import KernelConfig


def configure(
    tmp_path: Path, fragment: str, base: Any = "tinyconfig", host: str | None = None
) -> dict[str, str]:
    tree = kernel_fake.tree(tmp_path / "tree")
    (tmp_path / "test.config").write_text(fragment)
    model = KernelConfig(base=base, fragments=(str(tmp_path / "test.config"),))
    inputs = config.read_inputs(model, host)
    return config.values(config.configure(tree, tree / "out", inputs, ["make", "O=out"], {}))


def test_base_and_fragment(tmp_path: Path) -> None:
    got = configure(
        tmp_path, 'CONFIG_NET=y\nCONFIG_NEEDS_NET=m\nCONFIG_STRING="a b"\n# CONFIG_BASE is not set\n'
    )
    assert got["CONFIG_NET"] == "y" and got["CONFIG_NEEDS_NET"] == "m" and got["CONFIG_STRING"] == '"a b"'
    assert "CONFIG_BASE" not in got


@pytest.mark.parametrize(
    ("fragment", "words"),
    [
        (
            "CONFIG_NET=y\nCONFIG_TYPO=y\n",
            r"test.config:2: CONFIG_TYPO=y did not survive, it is n: .* no such",
        ),
        (
            "CONFIG_NEEDS_NET=y\n",
            r"test.config:1: CONFIG_NEEDS_NET=y did not survive, it is n: what it depends",
        ),
        ("CONFIG_A=y\nCONFIG_B=y\n", r"CONFIG_A=y did not survive.*and 1 more: CONFIG_B"),
    ],
)
def test_vanished_option_is_named(tmp_path: Path, fragment: str, words: str) -> None:
    with pytest.raises(InvalidError, match=words) as caught:
        configure(tmp_path, fragment)
    assert "\n" not in str(caught.value)


def test_option_that_another_selects(tmp_path: Path) -> None:
    tree = kernel_fake.tree(tmp_path / "tree")
    with (tree / "scripts/olddefconfig").open("a") as script:
        script.write('echo CONFIG_MODULES=y >>"$1"\n')
    inputs = config.ConfigInputs("tinyconfig", "", (("f", "# CONFIG_MODULES is not set"),))
    with pytest.raises(InvalidError, match=r"f:1: CONFIG_MODULES=n .* it is y: another option selects"):
        config.configure(tree, tree / "out", inputs, ["make", "O=out"], {})


def test_later_fragments_win() -> None:
    asks = config.asked([("a", "CONFIG_X=y\nCONFIG_Y=y"), ("b", "# CONFIG_X is not set\nCONFIG_Y=m # why")])
    assert {name: (ask.value, ask.place) for name, ask in asks.items()} == {
        "CONFIG_X": ("n", "b:1"),
        "CONFIG_Y": ("m", "b:2"),
    }


@pytest.mark.parametrize("line", ["NET=y", "CONFIG_NET", "CONFIG_NET = y", "#CONFIG_NET=y", 'CONFIG_S="a'])
def test_bad_line_has_a_place(line: str) -> None:
    with pytest.raises(UsageError, match=r"fragment f:2: .* is not an option"):
        config.asked([("f", f"# a comment\n{line}")])


def test_file_base(tmp_path: Path) -> None:
    (tmp_path / "base.config").write_text("CONFIG_EXT4_FS=y\nCONFIG_OLD=y\n")
    got = configure(tmp_path, "CONFIG_NET=y\n", base={"file": str(tmp_path / "base.config")})
    assert got["CONFIG_EXT4_FS"] == "y" and got["CONFIG_NET"] == "y" and "CONFIG_BASE" not in got


@pytest.mark.parametrize("kind", ["host", "file"])
def test_a_distributions_configuration_as_base(tmp_path: Path, kind: str) -> None:
    """Its key files go; a fragment still has the last word."""
    text = (
        'CONFIG_EXT4_FS=m\nCONFIG_SYSTEM_TRUSTED_KEYS="debian/certs/x.pem"\nCONFIG_LOCALVERSION="-1-amd64"\n'
    )
    (tmp_path / "base.config").write_text(text)
    base = "host" if kind == "host" else {"file": str(tmp_path / "base.config")}
    got = configure(tmp_path, "CONFIG_NET=y\n", base=base, host=text)
    assert got["CONFIG_EXT4_FS"] == "m" and got["CONFIG_NET"] == "y"
    assert got["CONFIG_SYSTEM_TRUSTED_KEYS"] == '""' and got["CONFIG_LOCALVERSION"] == '""'


def test_host_base_forgives_its_own_adjustments_only(tmp_path: Path) -> None:
    """The fake tree has no module signatures to switch off; what a user asks for is checked as ever."""
    with pytest.raises(InvalidError, match="CONFIG_TYPO"):
        configure(tmp_path, "CONFIG_TYPO=y\n", base="host", host="CONFIG_NET=y\n")


def test_a_file_and_a_host_with_one_configuration_make_one_kernel(tmp_path: Path) -> None:
    text = 'CONFIG_A=y\nCONFIG_LOCALVERSION="-1"\n'
    (tmp_path / "base.config").write_text(text)
    model = KernelConfig.model_validate({"base": {"file": str(tmp_path / "base.config")}})
    from_file = config.read_inputs(model, None)
    assert from_file.digest() == config.read_inputs(KernelConfig(base="host"), text).digest()


def test_host_base_is_stable(tmp_path: Path) -> None:
    """Who built the host's kernel, and its suffix, make no other kernel of it."""
    model = KernelConfig(base="host")
    one = config.read_inputs(model, '# made by x\nCONFIG_A=y\nCONFIG_LOCALVERSION="-1"\n')
    two = config.read_inputs(model, '# made by y\nCONFIG_A=y\nCONFIG_LOCALVERSION="-zclab-1"\n')
    assert one.digest() == two.digest()
    assert one.digest() != config.read_inputs(model, "CONFIG_A=m\n").digest()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"base": "host"}, "no running configuration is known"),
        ({"fragments": ["nosuch"]}, r"fragments nosuch: .*nosuch cannot be read: No such file"),
        ({"base": {"file": "nosuch"}}, r"config.base.file nosuch"),
    ],
)
def test_missing_inputs(model: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        config.read_inputs(KernelConfig.model_validate(model), None)


def test_shipped_fragments_are_well_formed() -> None:
    names = [path.stem for path in sorted((project_root() / "kernel/configs").glob("*.config"))]
    assert {"lean-x86", "guest", "network", "userland", "from-host"} <= set(names)
    inputs = config.read_inputs(KernelConfig(fragments=tuple(names)), None)
    assert len(config.asked(inputs.fragments)) > 100


def test_options_of_drivers(tmp_path: Path) -> None:
    tree = kernel_fake.tree(tmp_path / "tree")
    assert drivers.options_of(
        tree, ["e1000e", "virtio-net", "virtio_net", "ext4", "shared", "always_there", "hw"]
    ) == {
        "e1000e": ["CONFIG_E1000E"],
        "virtio-net": ["CONFIG_VIRTIO_NET"],
        "virtio_net": ["CONFIG_VIRTIO_NET"],
        "ext4": ["CONFIG_EXT4_FS"],
        "shared": ["CONFIG_OLD_CARD", "CONFIG_NEW_CARD"],
        "always_there": ["y"],
        "hw": [],
    }


OPTIONS = {
    "ext4": ["CONFIG_EXT4_FS"],
    "e1000e": ["CONFIG_E1000E"],
    "x": [],
    "two": ["CONFIG_P", "CONFIG_Q"],
    "z": ["y"],
}
EXT4 = ("ext4", "root filesystem")


@pytest.mark.parametrize(
    ("got", "driver", "purpose", "words"),
    [
        (
            {},
            "e1000e",
            "NIC",
            r"NIC of h1 needs driver e1000e and CONFIG_E1000E is not set: add CONFIG_E1000E=y",
        ),
        ({"CONFIG_E1000E": "m"}, "e1000e", "NIC", None),
        ({"CONFIG_EXT4_FS": "m"}, "ext4", "root filesystem", r"ext4 built in, .* CONFIG_EXT4_FS is m: add"),
        ({"CONFIG_EXT4_FS": "m", "CONFIG_BLK_DEV_INITRD": "y", "CONFIG_MODULES": "y"}, *EXT4, None),
        # It could load an initrd, and none is made for a kernel without modules.
        ({"CONFIG_EXT4_FS": "m", "CONFIG_BLK_DEV_INITRD": "y"}, *EXT4, r"ext4 built in, .* is m: add"),
        ({"CONFIG_EXT4_FS": "y"}, "ext4", "root filesystem", None),
        ({"CONFIG_Q": "m"}, "two", "root disk", r"two built in, .* CONFIG_Q is m"),
        ({"CONFIG_P": "m", "CONFIG_Q": "y"}, "two", "root disk", None),
        ({}, "x", "root disk", r"the root disk of h1 needs driver x, which this kernel source does not have"),
        ({}, "z", "root disk", None),
    ],
)
def test_required_drivers(got: dict[str, str], driver: str, purpose: Any, words: str | None) -> None:
    requirement = Requirement(driver=driver, purpose=purpose, host="h1")
    if words is None:
        drivers.check(got, OPTIONS, [requirement], "stock")
        return
    with pytest.raises(InvalidError, match=f"kernel variant stock: .*{words}") as caught:
        drivers.check(got, OPTIONS, [requirement], "stock")
    assert "\n" not in str(caught.value)


def test_an_option_that_has_to_be_built_in_is_named() -> None:
    needed = {"CONFIG_VETH": "a link", "CONFIG_NET_NS": "a guest"}
    drivers.check_built_in({"CONFIG_VETH": "y", "CONFIG_NET_NS": "y"}, needed, "stock")
    for got, value in (({"CONFIG_VETH": "y"}, "n"), ({"CONFIG_VETH": "y", "CONFIG_NET_NS": "m"}, "m")):
        with pytest.raises(
            InvalidError, match=rf"variant stock: CONFIG_NET_NS is {value}, and a guest needs"
        ):
            drivers.check_built_in(got, needed, "stock")
