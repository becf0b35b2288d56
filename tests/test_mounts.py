"""What lies under a store is read from the kernel's own list of mounts, and said to who sets it up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.uploader import directory_survey
from agent.uploader.mounts import Mount, find, keeps_modes, mount_of
from tests.disks import MIB, tmpfs
from tests.shares import OwnProcessStore, made

MOUNTS = r"""36 25 0:31 / /srv/evidence rw,relatime shared:9 master:2 - nfs4 nas:/volume\0401 rw,vers=4.2,soft,timeo=600
37 25 0:32 / /srv/ev\040idence rw,nosuid shared:10 - cifs //nas/\350\203\214 rw,vers=3.1.1,cache=strict
38 25 0:33 / /srv/other rw - nfs nas:/b rw,hard
361 25 8:1 / / ro - ext4 /dev/sda1 rw
"""


def test_a_mount_is_found_by_its_number_with_kind_source_and_all_options() -> None:
    soft = find(MOUNTS, "36")
    assert soft is not None
    assert (soft.kind, soft.source, soft.is_network) == ("nfs4", "nas:/volume 1", True)
    assert {"rw", "relatime", "soft", "timeo=600"} <= soft.options
    local = find(MOUNTS, "361")
    assert local == Mount("ext4", "/dev/sda1", frozenset({"ro", "rw"}))
    assert not local.is_network
    assert find(MOUNTS, "3") is None


@pytest.mark.root
def test_the_mount_of_a_descriptor_is_known_until_it_is_unmounted(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", MIB) as disk:
        fd = os.open(disk, os.O_RDONLY)
        mount = mount_of(fd)
        assert mount is not None
        assert mount.kind == "tmpfs"
        assert keeps_modes(fd)
        os.close(fd)
    fd = os.open(tmp_path, os.O_RDONLY)
    found = mount_of(fd)
    os.close(fd)
    assert found is not None
    assert found.kind != "tmpfs"


@pytest.mark.parametrize(("number", "is_nfs", "good"), [("36", True, False), ("38", True, True), ("37", False, None)])
async def test_a_survey_warns_of_what_a_network_share_can_not_promise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: str, is_nfs: bool, good: bool | None
) -> None:
    monkeypatch.setattr(directory_survey, "mount_of", lambda _: find(MOUNTS, number))
    store = OwnProcessStore("s", {"path": str(made(tmp_path / "store"))}, vault_root=tmp_path / "vault")
    traits = {trait.name: trait for trait in await store.survey()}
    assert "memory of the storage" in traits["network share"].what
    assert "WORM" in traits["network share"].do
    assert ("nfs mount" in traits) == is_nfs
    if is_nfs:
        assert traits["nfs mount"].good is good
        assert bool(traits["nfs mount"].do) == (not good)
