# SPDX-License-Identifier: MIT OR Apache-2.0
"""The demo's judge (scripts/demo/report.py) on recorded figures: a good run,
and each way in which the figures can fail to add up."""

from __future__ import annotations

import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts" / "demo"))
import report  # noqa: E402

CALLS = {"openat": 6000, "statx": 3000, "getdents64": 200, "mkdirat": 100, "read": 6000,
         "write": 3000, "close": 6000}
TOTAL = sum(CALLS.values())
MAIN, THREAD, OTHER = 90, 91, 50


def hist(keys: str, buckets: list[tuple[str, int]], dropped: int = 0, only: str = "") -> str:
    lines = ["# event histogram", "#",
             f"# trigger info: hist:keys={keys}:vals=hitcount:sort=hitcount:size=2048{only} [active]",
             "#", ""]
    lines += [f"{{ {names} }} hitcount: {hits:10}" for names, hits in buckets]
    lines += ["", "Totals:", "    Hits: 1", "    Entries: 1", f"    Dropped: {dropped}", ""]
    return "\n".join(lines)


class Demo(unittest.TestCase):
    def setUp(self) -> None:
        temp = tempfile.TemporaryDirectory()
        self.addCleanup(temp.cleanup)
        self.dir = Path(temp.name)
        for name in ("flexsc", "plain"):
            self.write_report(name)
            self.write(f"{name}.pid", f"{MAIN}\n")
        for i in (1, 2, 3):
            self.write_report(f"time-{i}-plain", seconds=2.0 + i / 10)
            self.write_report(f"time-{i}-flexsc", seconds=1.0 + i / 10)
        for name in ("flexsc", "plain", "time-3-flexsc", "time-3-plain"):
            self.write(f"{name}.verified", "compared 2500 files: 0 differences\n")
        self.entered("plain", traps={"ioctl": 0, "start": 80})
        self.write("plain.flexsc_invoke", hist("common_pid,tgid", []))
        self.write("plain.flexsc_complete", hist("common_pid,nr", []))
        self.write("plain.flexsc_block", hist("nr", []))
        self.entered("flexsc", traps={"ioctl": 100, "start": 80})
        self.write("flexsc.flexsc_invoke", hist("common_pid,tgid", [
            (f"common_pid: {MAIN}, tgid: {MAIN}", 100),
            (f"common_pid: {THREAD}, tgid: {MAIN}", 100),
            (f"common_pid: {OTHER}, tgid: {OTHER}", 7)]))
        self.completed()
        self.write("flexsc.flexsc_block", hist("nr", [("nr:        257", 30)]))

    def write(self, name: str, text: str) -> None:
        (self.dir / name).write_text(text)

    def write_report(self, name: str, **other) -> None:
        values = {"calls": TOTAL, "seconds": 1.0, "calls_progress": 0, "files": 2500, "dirs": 100,
                  "links": 4, "bytes": 50_000_000, "errors": 0, "waits": 98, "fallbacks": 0}
        values |= {f"calls_{call}": number for call, number in CALLS.items()}
        if "flexsc" in name:
            values |= {"engine_posted": TOTAL, "engine_refused": 0, "engine_handoffs": 20,
                       "engine_inline_done": TOTAL - 100, "engine_thread_done": 100}
        self.write(f"{name}.report", "".join(f"{k}={v}\n" for k, v in (values | other).items()))

    def entered(self, name: str, traps: dict[str, int], dropped: int = 0) -> None:
        buckets = [(f"common_pid: {OTHER}, id: 0", 12345)]
        for call, number in CALLS.items():
            nr = report.NUMBERS[call]
            if name == "flexsc":
                buckets.append((f"common_pid: {THREAD}, id: {nr}", 10))
                number -= 10
            buckets.append((f"common_pid:     {MAIN}, id:        {nr}", number))
        buckets.append((f"common_pid: {MAIN}, id: 16", traps["ioctl"]))
        buckets.append((f"common_pid: {MAIN}, id: 9", traps["start"]))
        self.write(f"{name}.sys_enter", hist("common_pid,id", buckets, dropped))

    def completed(self, refused: int = 0, missing: int = 0) -> None:
        buckets = []
        for call, number in CALLS.items():
            nr = report.NUMBERS[call]
            buckets += [(f"common_pid: {THREAD}, nr: {nr}", 10),
                        (f"common_pid: {MAIN}, nr: {nr}", number - 10)]
        names, hits = buckets[-1]
        buckets[-1] = (names, hits - missing)
        text = hist("common_pid,nr", buckets)
        text += hist("common_pid,result", [(f"common_pid: {MAIN}, result: -95", refused)]
                     if refused else [], only=" if result == -95")
        self.write("flexsc.flexsc_complete", text)

    def refuses(self, why: str) -> None:
        with self.assertRaisesRegex(report.Mismatch, why):
            report.judge(self.dir)

    def test_good(self) -> None:
        flexsc = report.counted(self.dir, "flexsc")
        self.assertEqual((flexsc.traps, flexsc.threads, flexsc.blocked), (180, 1, 30))
        self.assertEqual(report.counted(self.dir, "plain").traps, TOTAL + 80)
        text = report.judge(self.dir)
        self.assertIn("99.26% of the traps are gone", text)
        self.assertRegex(text, r"(?m)time of plain calls / time of FlexSC +1\.83$")

    def test_a_loss_is_told_as_it_is(self) -> None:
        for i in (1, 2, 3):
            self.write_report(f"time-{i}-flexsc", seconds=4.4)
        self.assertIn("0.50 times the speed", report.judge(self.dir))

    def test_too_many_traps(self) -> None:
        self.entered("flexsc", traps={"ioctl": 98, "start": 400})
        self.refuses("only 97.* of the traps are gone")

    def test_dropped_events(self) -> None:
        self.entered("flexsc", traps={"ioctl": 100, "start": 80}, dropped=3)
        self.refuses("dropped 3 events")

    def test_refused_entries(self) -> None:
        self.completed(refused=5)
        self.refuses("5 entries were refused")

    def test_plain_calls_in_disguise(self) -> None:
        self.write_report("flexsc", fallbacks=7)
        self.refuses("7 calls were refused and made as plain calls")

    def test_calls_that_no_page_has_seen(self) -> None:
        self.completed(missing=9)
        self.refuses("posted 6000 close calls, the kernel finished 5991")

    def test_waits_that_nobody_saw(self) -> None:
        self.write_report("flexsc", waits=101)
        self.refuses("it waited 101 times, the kernel saw 100 calls")

    def test_plain_run_through_pages(self) -> None:
        self.write("plain.flexsc_complete", (self.dir / "flexsc.flexsc_complete").read_text())
        self.refuses("the plain run used syscall pages")

    def test_another_tree(self) -> None:
        self.write_report("time-2-flexsc", files=2499)
        self.refuses("time-2-flexsc copied 2499 files, others 2500")

    def test_small_tree(self) -> None:
        for name in [path.stem for path in self.dir.glob("*.report")]:
            self.write_report(name, bytes=39_000_000)
        self.refuses("too small")

    def test_errors(self) -> None:
        self.write_report("plain", errors=1)
        self.refuses("plain reports 1 errors")

    def test_difference(self) -> None:
        self.write("flexsc.verified", "compared 2500 files: 1 differences\n")
        self.refuses("1 differences")

    def test_missing_pieces(self) -> None:
        (self.dir / "plain.verified").unlink()
        self.refuses("3 copies were compared instead of 4")
        (self.dir / "flexsc.sys_enter").unlink()
        self.refuses("left no flexsc.sys_enter")


if __name__ == "__main__":
    unittest.main()
