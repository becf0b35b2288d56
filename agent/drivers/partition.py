"""Finds the volumes of a device: MBR with primary and logical partitions, GPT, or one filesystem without a table."""

import struct
import zlib
from collections.abc import Iterator
from enum import StrEnum
from typing import Final, NamedTuple

from agent.drivers.exfat import ExFatVolume, is_whole_boot_region
from agent.drivers.fat import FatVolume
from agent.drivers.source import SECTOR_BYTES, Source

GPT_SECTOR_SIZES: Final = (512, 4096)
PARTITIONS_LIMIT: Final = 32
GPT_ENTRIES_LIMIT: Final = 256
MBR_TABLE: Final = 446
EXTENDED_TYPES: Final = frozenset({0x05, 0x0F, 0x85})
PROTECTIVE_TYPE: Final = 0xEE
BOOT_FLAGS: Final = frozenset({0x00, 0x80})
EXT_MAGIC_OFFSET: Final = 1024 + 56
FAT32_BACKUP_OFFSET: Final = 6 * SECTOR_BYTES
EXFAT_BACKUP_OFFSET: Final = 12 * SECTOR_BYTES


class FilesystemKind(StrEnum):
    """Families of filesystems that are told apart by their magic."""

    FAT = "fat"
    EXFAT = "exfat"
    NTFS = "ntfs"
    EXT = "ext"
    UNKNOWN = "unknown"


FAT, EXFAT, UNKNOWN = FilesystemKind.FAT, FilesystemKind.EXFAT, FilesystemKind.UNKNOWN


class Place(NamedTuple):
    """Where a filesystem begins; `boot_offset` differs from `offset` when only its backup boot sector is whole."""

    kind: FilesystemKind
    offset: int
    size_bytes: int
    boot_offset: int


def find_volumes(source: Source) -> list[Place]:
    """All places where a filesystem is or should be, in the order of their tables; at least one."""
    whole = identify(source, 0, source.size_bytes)
    if whole.kind is not UNKNOWN and whole.boot_offset == 0:
        return [whole]
    sizes: dict[int, int] = {}
    for offset, size in _partitions(source):
        if 0 < offset < source.size_bytes and len(sizes) < PARTITIONS_LIMIT:
            sizes.setdefault(offset, size)
    found = [identify(source, offset, size) for offset, size in sizes.items()]
    if whole.kind is not UNKNOWN and all(place.kind is UNKNOWN for place in found):
        return [whole]  # its backup is more believable than a table of nothing
    return found or [whole]


def identify(source: Source, offset: int, size_bytes: int) -> Place:
    """What begins at an offset; a damaged boot sector is replaced by its backup."""
    kind, boot_offset = _kind_of(source.read(offset, SECTOR_BYTES)), offset
    if kind is UNKNOWN and source.read(offset + EXT_MAGIC_OFFSET, 2) == b"\x53\xef":
        kind = FilesystemKind.EXT
    if kind is UNKNOWN and _kind_of(source.read(offset + FAT32_BACKUP_OFFSET, SECTOR_BYTES)) is FAT:
        kind, boot_offset = FAT, offset + FAT32_BACKUP_OFFSET
    needs_backup = kind is UNKNOWN or (kind is EXFAT and not is_whole_boot_region(source, offset))
    if needs_backup and is_whole_boot_region(source, offset + EXFAT_BACKUP_OFFSET):
        kind, boot_offset = EXFAT, offset + EXFAT_BACKUP_OFFSET
    return Place(kind, offset, size_bytes, boot_offset)


def _kind_of(boot: bytes) -> FilesystemKind:
    if ExFatVolume.parse_boot(boot):
        return EXFAT
    if boot[3:11] == b"NTFS    ":
        return FilesystemKind.NTFS
    return FAT if FatVolume.parse_boot(boot) else UNKNOWN


def _partitions(source: Source) -> Iterator[tuple[int, int]]:
    """(offset, size) in bytes of all partitions; a GPT is believed before the MBR that protects it."""
    entries = list(_mbr_entries(source.read(0, SECTOR_BYTES)))
    if not entries or any(kind == PROTECTIVE_TYPE for kind, _, _ in entries):
        yield from _gpt_partitions(source)
    for kind, start, count in entries:
        if kind in EXTENDED_TYPES:
            yield from _logical_partitions(source, start)
        elif kind != PROTECTIVE_TYPE:
            yield start * SECTOR_BYTES, count * SECTOR_BYTES


def _mbr_entries(sector: bytes) -> Iterator[tuple[int, int, int]]:
    """(type, first sector, number of sectors) of the used entries of a boot record."""
    if len(sector) < SECTOR_BYTES or sector[510:512] != b"\x55\xaa":
        return
    for at in range(MBR_TABLE, MBR_TABLE + 4 * 16, 16):
        flag, kind, start, count = struct.unpack_from("<B3xB3xII", sector, at)
        if flag in BOOT_FLAGS and kind and start and count:
            yield kind, start, count


def _logical_partitions(source: Source, extended: int) -> Iterator[tuple[int, int]]:
    """Follow the chain of extended boot records, at most `PARTITIONS_LIMIT` of them."""
    record = extended
    for _ in range(PARTITIONS_LIMIT):
        following = 0
        for kind, start, count in _mbr_entries(source.read(record * SECTOR_BYTES, SECTOR_BYTES)):
            if kind in EXTENDED_TYPES:
                following = extended + start
            else:
                yield (record + start) * SECTOR_BYTES, count * SECTOR_BYTES
        if following <= record:  # records go upwards; anything else is a loop
            return
        record = following


def _gpt_partitions(source: Source) -> Iterator[tuple[int, int]]:
    """Partitions of the first GPT whose header checksum fits: the main one, or the backup at the end."""
    for sector_bytes in GPT_SECTOR_SIZES:
        last = source.size_bytes // sector_bytes - 1
        for header_sector in (1, last):
            header = source.read(header_sector * sector_bytes, SECTOR_BYTES)
            if _is_gpt(header):
                yield from _gpt_entries(source, header, sector_bytes)
                return


def _is_gpt(header: bytes) -> bool:
    if len(header) < SECTOR_BYTES or header[:8] != b"EFI PART":
        return False
    size, checksum = (int(value) for value in struct.unpack_from("<II", header, 12))
    return 92 <= size <= SECTOR_BYTES and zlib.crc32(header[:16] + bytes(4) + header[20:size]) == checksum


def _gpt_entries(source: Source, header: bytes, sector_bytes: int) -> Iterator[tuple[int, int]]:
    table, count, entry_bytes = struct.unpack_from("<QII", header, 72)
    if not 128 <= entry_bytes <= 4096:
        return
    raw = source.read(table * sector_bytes, min(count, GPT_ENTRIES_LIMIT) * entry_bytes)
    for at in range(0, len(raw) - entry_bytes + 1, entry_bytes):
        first, last = struct.unpack_from("<QQ", raw, at + 32)
        if any(raw[at : at + 16]) and 0 < first <= last:
            yield first * sector_bytes, (last - first + 1) * sector_bytes
