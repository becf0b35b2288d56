"""A real machine for tests: Debian 12 in QEMU with systemd and udev, real USB, and a power plug that is pulled.

Run: `./run vm-test tests/vm_docking.py`, or, once `./run vm-test` has installed QEMU, `.venv/bin/pytest tests/vm_x.py`
as root. Files of machine tests are called `tests/vm_*.py`: the normal test run doesn't collect them. Each begins with

    pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

The fixture `machine` (`tests.machine.machine.Machine`) has booted with the package of this tree installed, an empty
station (/var/lib/capture-agent, its own disk) and an empty dedicated storage (/srv/evidence, another one). It goes on
from a machine that was frozen after its boot, once for each package, so it is there in a second or two; its clock is
that far behind, until `machine.run("date -s @...")`. After a power cut it really boots:

    machine.run("systemctl is-active capture-agent")       what bash prints as root; fails unless it ends with 0
    machine.call("false").returncode                       the same, without failing; .output
    machine.until("test -e /run/x", limit_s=60)            again and again until it succeeds
    machine.guest.write("/etc/x.conf", "text")             and machine.configure({"dock.stall_limit_s": "5"}): restarts
    machine.status(), machine.until_status(lambda status: status["slots"])   what the status page says, as JSON
    machine.until_phase("finished", slot="usb-0:1:")       waits for a slot; what it shows then
    machine.journal(), machine.mount_share()               journald of the unit; a folder shared with `machine.share`
    stick = machine.usb.disk(path_of_image, "SERIAL", port="1", rate_bps=500_000, bad_sectors=[4096])
    machine.usb.yank(stick), .hang(stick), .free(stick), .rate(stick, 0)
    machine.usb.serial(), .keyboard(port=), .hub(port="1"), .mtp(folder)     hub("1") gives ports "1.1" to "1.8"
    machine.power_cut(), machine.power_on()                the plug is pulled; the same disks boot again
    machine.power_off()                                    in good order; then, read from outside:
    machine.stored(), machine.vaulted()                    path -> SHA-256 of each original; the disk must be sound

Cards come from `tests.cards.image(path, {"DCIM/0001.MP4": Noise(3 * MIB)}, "exfat")`; keep them below 50 MB: a machine
without a real processor reads some 20 MB/s. A boot takes 15 to 60 s here. Other hardware, or
a machine whose very first boot matters:

    with computer(machine_image, tmp_path, lossy=True, hardware=Hardware(rtc="2030-01-01T00:00:00", arguments=(...)),
                  more=[Drive(ext4(tmp_path / "x.img", "x", 64), "x")]) as machine:
        machine.power_on()

`lossy=True`: `power_cut(random.Random(7), survival=0.5)` also loses part of what the machine had written but never
flushed. `tests.machine.image.base()` is the Debian without the agent. The disks are cached in `.cache/vm`: the base by
`packages.txt` and `configure.sh`, the installed one by the package's content, so a change of the agent costs 20 s.
What an error shows last is the console and the unit's journal.
"""
