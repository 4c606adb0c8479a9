# SPDX-License-Identifier: MIT OR Apache-2.0
"""Unit tests of scripts/vm/judge.py on recorded texts."""

import io
import os
import re
import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "vm"))
import judge as rules  # noqa: E402

PARSER = rules.load_parser(Path(os.environ["FLEXSC_KUNIT"]))

BOOT = """\
[    0.000000] Linux version 6.12.117 (build@host) (clang 19, LLD 19) #1 SMP
[    0.014000] RETBleed: WARNING: Spectre v2 mitigation leaves CPU vulnerable to RETBleed attacks, data leaks possible!
[    0.020000] kasan: KernelAddressSanitizer initialized (generic)
[    0.120000] NMI watchdog: Perf NMI watchdog permanently disabled
[    0.130000] rcu: \tRCU lockdep checking is enabled.
[    0.140000] [Firmware Bug]: TSC doesn't count with P0 frequency!
[    0.150000] kmemleak: Kernel memory leak detector initialized (mem pool available: 15747)
[    1.200000] flexsc-ktest: init
"""
END = "[    9.000000] flexsc-ktest: end of run\n[    9.100000] reboot: Restarting system\n"

# Lines that must be seen as faults, as kernels print them.
FAULTS = """\
[    2.5] ------------[ cut here ]------------
[    2.5] WARNING: CPU: 1 PID: 77 at kernel/sched/core.c:123 foo+0x12/0x40
[    2.5] WARNING: possible circular locking dependency detected
[    2.5] WARNING: suspicious RCU usage
[    2.5] WARNING: kobject bug
[    2.5] BUG: KASAN: slab-use-after-free in flexsc_close+0x1/0x2
[    2.5] BUG: kernel NULL pointer dereference, address: 0000000000000010
[    2.5] BUG: sleeping function called from invalid context at mm/slab.h:1
[    2.5] BUG: scheduling while atomic: flexsc/77/0x00000002
[    2.5] BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 31s!
[    2.5] BUG kmalloc-64 (Tainted: G        W  O      ): Poison overwritten
[    2.5] kernel BUG at mm/slub.c:553!
[    2.5] Oops: general protection fault, probably for non-canonical address 0xdead: 0000 [#1]
[    2.5] Oops: 0000 [#1] PREEMPT SMP KASAN NOPTI
[    2.5] Oops: invalid opcode: 0000 [#1] SMP
[    2.5] general protection fault, probably for non-canonical address 0xdead000000000100
[    2.5] KASAN: null-ptr-deref in range [0x10-0x17]
[    2.5] KCSAN: data-race in a / b
[    2.5] BUG: KFENCE: use-after-free read in flexsc_close+0x1/0x2
[    2.5] double fault: 0000 [#1] SMP
[    2.5] PANIC: double fault, error_code: 0x0
[    2.5] traps: PANIC: double fault, error_code: 0x0
[    2.5] UBSAN: array-index-out-of-bounds in drivers/flexsc/x.c:1:2
[    2.5] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:
[    2.5] rcu: INFO: rcu_preempt self-detected stall on CPU
[    2.5] rcu: INFO: rcu_sched detected expedited stalls on CPUs/tasks: { 1-... }
[    2.5] rcu: rcu_preempt kthread starved for 5250 jiffies! g1 f0x0
[    2.5] INFO: task flexsc-tests:77 blocked for more than 120 seconds.
[    2.5] INFO: rcu_sched detected stalls on CPUs/tasks:
[    2.5] INFO: lockdep is turned off.
[    2.5] kobject: kobject (00000000c0ffee00): tried to init an initialized object, something is seriously wrong.
[    2.5] VFS: Busy inodes after unmount of tmpfs (tmpfs)
[    2.5] INFO: trying to register non-static key.
[    2.5] watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [flexsc:77]
[    2.5] watchdog: CPU0: Watchdog detected hard LOCKUP on cpu 0
[    2.5] kmemleak: 2 new suspected memory leaks (see /sys/kernel/debug/kmemleak)
[    2.5] unreferenced object 0xffff888004d5a000 (size 64):
[    2.5] Fixing recursive fault but reboot is needed!
[    2.5] rust_kernel: panicked at drivers/flexsc/engine.rs:12:5:
[    2.5] note: flexsc-tests[77] exited with preempt_count 1
[    2.5] Kernel panic - not syncing: Fatal exception
[    2.500000][   T77] WARNING: CPU: 1 PID: 77 at kernel/fork.c:1 f+0x1/0x2
"""

# Lines that must not be seen as faults.
HARMLESS = """\
[    2.5] traps: prog[12] general protection fault ip:401000 sp:7ffe error:0 in prog
[    2.5] prog[13]: segfault at 0 ip 0000000000401000 sp 00007ffe error 4 in prog
[    2.5] FAULT_INJECTION: forcing a failure.
[    2.5] sysrq: Show Blocked State
[    2.5] task:sleep           state:D stack:0     pid:77
[    2.5] Out of memory: Killed process 99 (hog) total-vm:1kB
[    2.5] flexsc: loading out-of-tree module taints kernel.
[    2.5] audit: type=1326 audit(1.0:2): auid=0 comm="BUG: none" sig=31
[    2.5] workqueue: foo hogged CPU for >10000us 4 times, consider switching to WQ_UNBOUND
[    2.5] clocksource: timekeeping watchdog on CPU1: Marking clocksource 'tsc' as unstable
[    2.5] Warning: unable to open an initial console.
"""


def mark(name: str, inside: str = "", after: str = "") -> str:
    begin = f"[    2.000000] flexsc-ktest: begin {name}\n"
    return begin + inside + f"[    3.000000] flexsc-ktest: end {name}\n" + after


def ktap(*results: str, plan: int | None = None) -> str:
    names = [r.split(" # ")[0].removeprefix("not ") for r in results]
    out = ["KTAP version 1", f"1..{plan or len(results)}", "# planned: " + " ".join(names)]
    for i, result in enumerate(results, 1):
        bad = result.startswith("not ")
        name = result.removeprefix("not ")
        out += [f"# begin {name.split(' # ')[0]}", f"{'not ok' if bad else 'ok'} {i} {name}"]
    return "\n".join(out) + "\n# end of run\n"


def judge(text, console, code=0, limit=None, **kw):
    return rules.judge(text, console, code, limit, PARSER, **kw)


def race(title: str, *stacks: str) -> str:
    """A report of KCSAN, as the kernel prints it; a stack is "ACCESS|frame|frame"."""
    out = ["=" * 66, f"BUG: KCSAN: {title}", ""]
    for stack in stacks:
        access, *frames = stack.split("|")
        out += [f"{access} to 0xffff888004d5a000 of 8 bytes by task 77 on cpu 1:", *(f" {f}" for f in frames), ""]
    out += ["value changed: 0x1 -> 0x2", "", "Reported by Kernel Concurrency Sanitizer on:", "=" * 66]
    return "".join(f"[    2.500000] {line}\n" for line in out)


CALLERS = "__x64_sys_read+0x1/0x2|x64_sys_call+0x1/0x2|syscall_invoke_self+0x1/0x2|run+0x1/0x2 [flexsc]"


class Judge(unittest.TestCase):
    def failures(self, verdict):
        return {r.name: "; ".join(r.reasons) for r in verdict.failures}

    def test_good_run(self):
        verdict = judge(ktap("a", "b # SKIP no device"), BOOT + mark("a") + mark("b") + END)
        self.assertEqual(self.failures(verdict), {})
        self.assertEqual([verdict.count(s) for s in ("ok", "skipped")], [1, 1])
        self.assertEqual(verdict.results["b"].reasons, ["no device"])

    def test_skips(self):
        def skipped(reason, config, cpus=2):
            may_skip = rules.Skips.load(config, cpus)
            verdict = judge(ktap("a", f"b # SKIP {reason}"), BOOT + mark("a") + mark("b") + END, may_skip=may_skip)
            return self.failures(verdict)

        lacks = "needs a kernel with failure injection (the debug kernel)"
        self.assertEqual(skipped(lacks, "perf"), {})
        self.assertIn("should have it: needs a kernel", skipped(lacks, "debug")["b"])
        self.assertEqual(skipped("needs two processors", "perf", 1), {})
        self.assertIn("b", skipped("needs two processors", "perf", 2))
        self.assertIn("b", skipped("needs tracefs at /sys/kernel/tracing", "perf"))
        self.assertIn("b", skipped("", "perf"))
        self.assertEqual(skipped("needs tracefs", "somebody's own"), {})

    def test_races(self):
        theirs = race("data-race in pipe_read / pipe_write", f"write|pipe_write+0x1/0x2|vfs_write+0x1/0x2|{CALLERS}",
                      f"read|pipe_read+0x1/0x2|vfs_read+0x1/0x2|{CALLERS}")
        verdict = judge(ktap("a"), BOOT + mark("a", theirs) + END)
        self.assertEqual(self.failures(verdict), {})
        self.assertEqual(verdict.races, ["data-race in pipe_read / pipe_write"])
        unknown = race("data-race in pipe_read", f"race at unknown origin, with read|pipe_read+0x1/0x2|{CALLERS}")
        self.assertEqual(judge(ktap("a"), BOOT + mark("a", unknown) + END).races, ["data-race in pipe_read"])

        for ours in (
            race("data-race in a / claim", "read|a+0x1/0x2|b+0x1/0x2", "write|claim+0x1/0x2 [flexsc]|b+0x1/0x2"),
            race("data-race in memcpy", "write|memcpy+0x1/0x2|claim+0x1/0x2 [flexsc]|b+0x1/0x2"),
            race("data-race in a / b", "write|a+0x1/0x2|c+0x1/0x2", "read|syscall_invoke_for+0x1/0x2|c+0x1/0x2"),
            race("data-race in a / b", "write|a+0x1/0x2|c+0x1/0x2", "read|sock_try_recvfrom+0x1/0x2|c+0x1/0x2"),
            race("data-race in a / b"),
        ):
            verdict = judge(ktap("a"), BOOT + mark("a", theirs + ours) + END)
            self.assertIn("BUG: KCSAN: data-race", self.failures(verdict)["a"])
            self.assertEqual(len(verdict.races), 1)
        # A fault after a race that is not ours still counts.
        verdict = judge(ktap("a"), BOOT + mark("a", theirs + "[    2.5] WARNING: CPU: 1\n") + END)
        self.assertIn("WARNING", self.failures(verdict)["a"])

    def test_last_lines(self):
        verdict = judge(ktap("a", "b # SKIP x"), BOOT + mark("a") + mark("b") + END)
        out = io.StringIO()
        rules.report(verdict, "perf", 3.2, out)
        self.assertEqual(
            out.getvalue().splitlines(),
            ["ktest-result: config=perf passed=1 failed=0 skipped=1 seconds=3",
             "1 passed, 0 failed, 1 skipped"],
        )

    def test_every_fault_is_seen(self):
        for line in FAULTS.splitlines():
            with self.subTest(line):
                verdict = judge(ktap("a", "b"), BOOT + mark("a", line + "\n") + mark("b") + END)
                self.assertEqual(list(self.failures(verdict)), ["a"])

    def test_every_pattern_sees_a_fault(self):
        lines = [rules.TIMESTAMP.sub("", line) for line in FAULTS.splitlines()]
        patterns = (rules.GUEST / "splats.ere").read_text().splitlines()
        for pattern in (line for line in patterns if line[0] != "#"):
            with self.subTest(pattern):
                self.assertTrue(any(re.search(pattern, line) for line in lines), "no fault of FAULTS looks like this")

    def test_harmless_lines(self):
        verdict = judge(ktap("a"), BOOT + mark("a", HARMLESS) + END)
        self.assertEqual(self.failures(verdict), {})

    def test_fault_after_the_end_of_a_test(self):
        late = "[    3.1] BUG: KASAN: slab-use-after-free in x\n"
        verdict = judge(ktap("a", "b"), BOOT + mark("a", after=late) + mark("b") + END)
        self.assertIn("slab-use-after-free", self.failures(verdict)["a"])

    def test_fault_during_boot(self):
        verdict = judge(ktap("a"), "[    0.5] WARNING: CPU: 0 PID: 0 at x\n" + mark("a") + END)
        self.assertEqual(list(self.failures(verdict)), ["boot"])

    def test_fault_in_a_skipped_test(self):
        bad = "[    2.5] rust_kernel: panicked at x.rs:1:1:\n"
        verdict = judge(ktap("a # SKIP no"), BOOT + mark("a", bad) + END)
        self.assertEqual((verdict.count("skipped"), verdict.count("FAILED")), (0, 1))

    def test_many_faults_are_cut_short_but_not_the_panic(self):
        many = "".join(f"[    2.5] BUG: number {i}\n" for i in range(50))
        text = BOOT + "[    2.0] flexsc-ktest: begin a\n" + many + "[    2.6] Kernel panic - not syncing: x\n"
        verdict = judge(ktap(plan=1), text, None)
        self.assertEqual(len(verdict.results["a"].reasons), 5)
        self.assertIn("Kernel panic - not syncing: x", self.failures(verdict)["a"])

    def test_stale_breakpoint(self):
        oops = ("[ 9.1] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI\r\n"
                "[ 9.1] CPU: 0 UID: 0 PID: 7 Comm: tests Not tainted 6.12.117 #1\r\n"
                "[ 9.1] RIP: 0010:syscall_exit_work+0x48/0x150\r\n"
                "[ 9.1] Code: b8 90 0c 00 {} <a0> 00 00 00 89 f0\r\n")
        self.assertTrue(rules.is_stale_breakpoint(BOOT + oops.format("e9")))
        # A breakpoint that is in memory, another fault, and no fault.
        self.assertFalse(rules.is_stale_breakpoint(BOOT + oops.format("cc")))
        self.assertFalse(rules.is_stale_breakpoint(BOOT + oops.format("e9").replace("int3", "gp")))
        self.assertFalse(rules.is_stale_breakpoint(BOOT))
        # Another fault came first.
        before = "[ 8.9] BUG: KASAN: slab-out-of-bounds in x\r\n"
        self.assertFalse(rules.is_stale_breakpoint(BOOT + before + oops.format("e9")))

    def test_failing_test(self):
        text = ktap("a", "not b").replace("not ok", "# reason: exit code 3\nnot ok")
        verdict = judge(text, BOOT + mark("a") + mark("b") + END, 1)
        self.assertEqual(self.failures(verdict), {"b": "exit code 3"})

    def test_short_plan(self):
        text = ktap("a", plan=3).replace("planned: a", "planned: a b c")
        got = self.failures(judge(text, BOOT + mark("a") + END))
        self.assertEqual(got["b"], "did not run")
        self.assertEqual(got["c"], "did not run")
        self.assertEqual(got["vm"], "the plan says 3 results and 1 came")

    def test_more_results_than_planned(self):
        got = self.failures(judge(ktap("a", "b", plan=1), BOOT + mark("a") + mark("b") + END))
        self.assertIn("the plan says 1 results and 2 came", got["vm"])

    def test_wrong_number(self):
        text = ktap("a", "b").replace("ok 2 b", "ok 3 b")
        self.assertIn("b", self.failures(judge(text, BOOT + mark("a") + mark("b") + END)))

    def test_the_same_name_twice(self):
        got = self.failures(judge(ktap("a", "a"), BOOT + mark("a") + mark("a") + END))
        self.assertIn("a", got)

    def test_missing_exit_code(self):
        got = self.failures(judge(ktap("a"), BOOT + mark("a") + END, None))
        self.assertEqual(got, {"vm": "no exit code"})

    def test_exit_code_without_failure(self):
        got = self.failures(judge(ktap("a"), BOOT + mark("a") + END, 3))
        self.assertEqual(got, {"vm": "the guest's exit code is 3"})

    def test_failure_without_exit_code(self):
        got = self.failures(judge(ktap("not a"), BOOT + mark("a") + END, 0))
        self.assertIn("although a test failed", got["vm"])

    def test_missing_end_marker(self):
        got = self.failures(judge(ktap("a"), BOOT + mark("a")))
        self.assertEqual(got, {"vm": "no end marker"})

    def test_restart_during_a_test(self):
        text = BOOT + mark("a") + "[    4.0] flexsc-ktest: begin b\n"
        got = self.failures(judge(ktap("a", plan=2), text, None))
        self.assertEqual(got["b"], "the machine stopped or restarted during this test")
        self.assertIn("no end marker; no exit code", got["vm"])

    def test_time_limit(self):
        text = BOOT + "[    4.0] flexsc-ktest: begin b\n"
        got = self.failures(judge(ktap(plan=1), text, None, ("b", "limit per test hit")))
        self.assertIn("limit per test hit", got["b"])

    def test_nothing_at_all(self):
        got = self.failures(judge("", "", None, ("boot", "limit for the boot hit")))
        self.assertEqual(got["boot"], "limit for the boot hit")
        self.assertEqual(got["vm"], "no KTAP plan; no end marker; no exit code")

    def test_empty_plan(self):
        self.assertIn("vm", self.failures(judge("KTAP version 1\n1..0\n", BOOT + END)))

    def test_bail_out(self):
        got = self.failures(judge("Bail out! no test matches 'x'\n", BOOT + END, 2))
        self.assertEqual(got, {"vm": "no test matches 'x'"})

    def test_carriage_returns_and_a_bad_byte(self):
        text = (BOOT + mark("a", "[    2.5] \ufffd\n") + END).replace("\n", "\r\n")
        self.assertEqual(self.failures(judge(ktap("a").replace("\n", "\r\n"), text)), {})

    def test_here_needs_no_end_marker(self):
        self.assertEqual(self.failures(judge(ktap("a"), mark("a"), 0, None, need_exit=False)), {})

    def test_user_lines_are_not_kernel_lines(self):
        text = ktap("a").replace("# begin a", "# begin a\n# WARNING: from the test itself")
        self.assertEqual(self.failures(judge(text, BOOT + mark("a") + END)), {})


if __name__ == "__main__":
    unittest.main()
