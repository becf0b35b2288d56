"""Reads a device with libgphoto2, as a program of its own: `python -m tests.gphoto_reader ptpip:HOST:PORT`, to JSON."""

from __future__ import annotations

import hashlib
import json
import sys

import gphoto2


def names(found: gphoto2.CameraList) -> list[str]:
    """What is in a list."""
    return [found.get_name(number) for number in range(found.count())]


def files(camera: gphoto2.Camera, folder: str) -> dict[str, str]:
    """SHA-256 of all files below a folder that are not empty: of those the binding makes a null pointer."""
    found = {}
    for name in names(camera.folder_list_files(folder)):
        if camera.file_get_info(folder, name).file.size:
            file = camera.file_get(folder, name, gphoto2.GP_FILE_TYPE_NORMAL)  # must live as long as its data are used
            found[f"{folder}/{name}"] = hashlib.sha256(memoryview(file.get_data_and_size())).hexdigest()
    for name in names(camera.folder_list_folders(folder)):
        found |= files(camera, f"{folder.rstrip('/')}/{name}")
    return found


def main(port: str) -> None:
    """Write path and digest of each file."""
    camera = gphoto2.Camera()
    abilities, ports = gphoto2.CameraAbilitiesList(), gphoto2.PortInfoList()
    abilities.load()
    ports.load()
    camera.set_abilities(abilities[abilities.lookup_model("PTP/IP Camera")])
    camera.set_port_info(ports[ports.lookup_path(port)])
    camera.init()
    sys.stdout.write(json.dumps(files(camera, "/")))
    camera.exit()


if __name__ == "__main__":
    main(sys.argv[1])
