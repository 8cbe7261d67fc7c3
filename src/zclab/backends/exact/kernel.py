# SPDX-License-Identifier: Apache-2.0
"""The kernel of an exact guest: the artifact that virtual hosts boot, too, and the options that it needs."""

from __future__ import annotations

from types import MappingProxyType

from zclab.base.progress import Progress
from zclab.kernel.build import BuildResult, build
from zclab.kernel.spec import KernelVariant

_BOOT = "the boot of an exact guest"
_ENDS = "the network namespaces of an exact guest"
_LINK = "a link of an exact guest"
#: Options that have to be built in, for a guest has no modules, and what needs them.
BUILT_IN = MappingProxyType(
    {
        "CONFIG_PVH": _BOOT,
        "CONFIG_BLK_DEV_INITRD": _BOOT,
        "CONFIG_BINFMT_ELF": _BOOT,
        "CONFIG_DEVTMPFS": _BOOT,
        "CONFIG_PROC_FS": _BOOT,
        "CONFIG_SYSFS": _BOOT,
        "CONFIG_TMPFS": _BOOT,
        "CONFIG_SIGNALFD": _BOOT,
        "CONFIG_SERIAL_8250_CONSOLE": _BOOT,
        "CONFIG_NAMESPACES": _ENDS,
        "CONFIG_NET_NS": _ENDS,
        "CONFIG_VETH": _LINK,
        "CONFIG_PCI": _LINK,
        "CONFIG_E1000E": _LINK,
    }
)


def ensure(variant: str, spec: KernelVariant, on_progress: Progress) -> BuildResult:
    """Return the artifact of a variant; build it if there is none.

    Raises what `zclab.kernel.build.build` raises; InvalidError before anything is compiled where an option is
    not set that a guest needs.
    """
    return build(variant, spec, on_progress=on_progress, built_in=BUILT_IN)
