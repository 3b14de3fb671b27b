# SPDX-License-Identifier: Apache-2.0
"""python3, perl, lua and tcl with threads, children, signals and C libraries."""

import programs

PYTHON = r"""
import asyncio, concurrent.futures, ctypes, ctypes.util, gc, hashlib, json, mmap, multiprocessing, os, queue
import random, re, resource, select, signal, socket, sqlite3, subprocess, sys, tempfile, threading, time, zlib

def work(n):
    return sum(int(x) for x in re.findall(r"\d", json.dumps(list(range(n)))))

def threads():
    jobs, done, lock, ready = queue.Queue(), [], threading.Lock(), threading.Condition()
    def serve():
        while (n := jobs.get()) is not None:
            with lock:
                done.append(work(n))
            with ready:
                ready.notify()
    servers = [threading.Thread(target=serve) for _ in range(8)]
    for t in servers: t.start()
    for n in range(200): jobs.put(n * 3)
    with ready:
        ready.wait_for(lambda: len(done) == 200)
    for _ in servers: jobs.put(None)
    for t in servers: t.join()
    print("threads", sum(done), lock.acquire(timeout=0.01), lock.acquire(timeout=0.01))
    event = threading.Event()
    timer = threading.Timer(0.02, event.set); timer.start()
    print("event", event.wait(20)); timer.join()

def processes():
    for method in ("fork", "spawn"):
        context = multiprocessing.get_context(method)
        with context.Pool(2) as pool:
            print(method, sum(pool.map(work, range(0, 2000, 100))))
    context = multiprocessing.get_context("fork")
    value, pipe = context.Value("i", 0), context.Pipe()
    def add():
        for _ in range(200):
            with value.get_lock(): value.value += 1
        pipe[1].send(os.getppid() == parent)
    parent = os.getpid()
    children = [context.Process(target=add) for _ in range(4)]
    for c in children: c.start()
    print("shared", [pipe[0].recv() for _ in children], [c.join() or c.exitcode for c in children], value.value)

def children():
    run = lambda *a, **k: subprocess.run(a, capture_output=True, text=True, **k)
    print(run("cat", input="through a pipe").stdout, run("sh", "-c", "kill -9 $$").returncode)
    try: run("sleep", "100", timeout=0.05)
    except subprocess.TimeoutExpired as late: print("late", late.cmd)
    try: run("no-such-program")
    except FileNotFoundError as error: print(error)
    print(run("sh", "-c", "ulimit -n; umask", preexec_fn=lambda: (os.umask(0o27), resource.setrlimit(
        resource.RLIMIT_NOFILE, (64, 64)))).stdout.split())
    many = [subprocess.Popen(["sh", "-c", f"exit {i}"]) for i in range(20)]
    print([p.wait() for p in many])
    pid = os.posix_spawn("/bin/true", ["true"], os.environ)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    pid = os.fork()
    if pid == 0:
        threading.Thread(target=work, args=(1000,)).start()
        os._exit(work(10) % 256)
    print("fork", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

def libraries():
    libc, z = ctypes.CDLL(None, use_errno=True), ctypes.CDLL("libz.so.1")
    compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
    numbers = (ctypes.c_int * 500)(*random.Random(1).sample(range(5000), 500))
    libc.qsort(numbers, 500, 4, compare(lambda a, b: a[0] - b[0]))
    print(list(numbers) == sorted(numbers), z.crc32(0, b"abc", 3) == zlib.crc32(b"abc"))
    libc.malloc.restype, libc.realloc.restype = ctypes.c_void_p, ctypes.c_void_p
    libc.free.argtypes, libc.realloc.argtypes = [ctypes.c_void_p], [ctypes.c_void_p, ctypes.c_size_t]
    libc.free(libc.realloc(libc.malloc(100), 100000))
    print(libc.close(999), ctypes.get_errno())
    try: ctypes.CDLL("libno-such.so")
    except OSError as error: print(error)

def signals():
    got = []
    for s in (signal.SIGUSR1, signal.SIGALRM, signal.SIGCHLD, signal.SIGURG, signal.SIGPROF):
        signal.signal(s, lambda number, frame: got.append(signal.Signals(number).name))
    for s in (signal.SIGUSR1, signal.SIGURG, signal.SIGPROF): os.kill(os.getpid(), s)
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    while "SIGALRM" not in got: time.sleep(0.01)
    subprocess.run(["true"])
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    os.kill(os.getpid(), signal.SIGUSR2)
    print(got, signal.sigwait([signal.SIGUSR2]).name, signal.sigtimedwait([signal.SIGUSR2], 0.01))
    print(sorted(s.name for s in signal.pthread_sigmask(signal.SIG_BLOCK, [])))
    for s in (signal.SIGURG, signal.SIGPROF, signal.SIGCHLD): signal.signal(s, signal.SIG_DFL)

async def tasks():
    async def echo(reader, writer):
        writer.write((await reader.readline()).upper()); await writer.drain(); writer.close()
    server = await asyncio.start_unix_server(echo, "socket")
    async def ask(i):
        reader, writer = await asyncio.open_unix_connection("socket")
        writer.write(b"line %d\n" % i); line = await reader.readline(); writer.close(); return line
    print(b"".join(sorted(await asyncio.gather(*map(ask, range(30)))))[:40])
    process = await asyncio.create_subprocess_exec("wc", "-c", stdin=-1, stdout=-1)
    print((await process.communicate(b"x" * 200000))[0])
    try: await asyncio.wait_for(asyncio.sleep(100), 0.02)
    except asyncio.TimeoutError: print("timed out")
    print(await asyncio.get_running_loop().run_in_executor(None, work, 300))
    server.close(); os.unlink("socket")

def memory():
    with tempfile.TemporaryFile() as file:
        file.truncate(1 << 20)
        with mmap.mmap(file.fileno(), 0) as m:
            m[1000:1005] = b"hello"; m.resize(2 << 20) if hasattr(m, "resize") else None
            print(m.find(b"hello"), len(m))
    base = sqlite3.connect(":memory:")
    base.executescript("create table t(a, b); create index i on t(b);")
    base.executemany("insert into t values(?, ?)", ((i, i * 7919 % 1000) for i in range(3000)))
    print(base.execute("select sum(a), count(distinct b) from t where b between 10 and 500").fetchone())
    print(hashlib.sha256(zlib.compress(b"z" * 1000000)).hexdigest())
    print(len([[] for _ in range(100000)]), gc.collect() >= 0)
    state = {k: v for k, v in (l.split(":", 1) for l in open("/proc/self/status"))}
    print({k: state[k].strip() for k in ("SigBlk", "SigPnd", "ShdPnd")}, sorted(os.listdir("/proc/self/fd")))

if __name__ == "__main__":
    for part in (threads, processes, children, libraries, signals, lambda: asyncio.run(tasks()), memory):
        part()
        sys.stdout.flush()
    print("to stderr", file=sys.stderr)
    threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
    sys.exit(3)
"""

PERL = r"""
use strict; use warnings; my $main; BEGIN { $main = $$ } use threads; use threads::shared; use Thread::Queue;
use POSIX qw(:sys_wait_h :signal_h sigsuspend); use Digest::SHA qw(sha256_hex); use Storable qw(freeze thaw);
use IO::Select; use Socket; use Time::HiRes qw(ualarm usleep);
$| = 1;
my %count; $count{length $_}++ for map { join ',', 1 .. $_ } 1 .. 400;
print sha256_hex(join ' ', map { "$_=$count{$_}" } sort { $a <=> $b } keys %count), "\n";
my @kids = map { my $n = $_; my $pid = fork // die; if (!$pid) { my @x = (1) x ($n * 1000); exit $n } $pid } 1 .. 10;
print join(' ', map { waitpid $_, 0; $? >> 8 } @kids), "\n";
my $reaped = 0; local $SIG{CHLD} = sub { $reaped++ while waitpid(-1, WNOHANG) > 0 };
for (1 .. 8) { fork // die or exit 0 } my $all = POSIX::SigSet->new; $all->fillset;
my ($chld, $old) = (POSIX::SigSet->new(SIGCHLD), POSIX::SigSet->new);
sigprocmask(SIG_BLOCK, $chld, $old); sigsuspend($old) while $reaped < 8; sigprocmask(SIG_SETMASK, $old);
print "reaped $reaped\n"; $SIG{CHLD} = 'DEFAULT';
my $usr = 0; sigaction(SIGUSR1, POSIX::SigAction->new(sub { $usr++ }, $all)); kill USR1 => $$ for 1 .. 5;
print "usr $usr\n";
eval { local $SIG{ALRM} = sub { die "alarm\n" }; ualarm 20000; usleep 10000 while 1 }; print "died: $@";
pipe my $r, my $w; if (!fork) { close $r; print $w "from child $_\n" for 1 .. 3; exit } close $w; print <$r>; wait;
socketpair my $a, my $b, AF_UNIX, SOCK_STREAM, PF_UNSPEC; syswrite $a, "ping";
print IO::Select->new($b)->can_read(20) ? "readable\n" : "not\n"; sysread $b, my $got, 10; print "$got\n";
my $queue = Thread::Queue->new; my $sum :shared = 0;
my @threads = map { threads->create(sub {
  while (defined(my $n = $queue->dequeue)) { lock $sum; $sum += $n } return threads->tid
}) } 1 .. 4;
$queue->enqueue($_) for 1 .. 2000; $queue->end; print join(' ', map { $_->join } @threads), " $sum\n";
my $copy = thaw(freeze({ list => [1 .. 5000], deep => { a => { b => 'c' } } }));
print scalar @{$copy->{list}}, $copy->{deep}{a}{b}, "\n";
print `echo back tick; exit 3`, $? >> 8, "\n"; print system('kill -TERM $$') & 127, "\n";
open my $p, '|-', 'sort -rn | head -2' or die; print $p "$_\n" for 1 .. 1000; close $p;
(my $text = 'abc' x 20000) =~ s/(b)(c)/$2$1/g; print length $text, ' ', unpack('%32C*', $text), "\n";
END { return if $$ != $main; print "end\n"; $? = 5 }
warn "a warning\n"; exec { '/bin/sh' } 'sh', '-c', 'echo exec; exit 6';
"""

LUA = r"""
local function walk(n) return coroutine.wrap(function() for i = 1, n do coroutine.yield(i) end end) end
local sum = 0; for i in walk(20000) do sum = sum + i end print(sum)
local words, finalized = {}, 0
for i = 1, 30000 do words[i] = ("w%d"):format(i * 7919 % 1000) .. ("x"):rep(i % 50) end
table.sort(words) print(#table.concat(words), words[1], words[15000])
for i = 1, 1000 do setmetatable({}, { __gc = function() finalized = finalized + 1 end }) end
words = nil collectgarbage() collectgarbage("generational") print(finalized, collectgarbage("count") < 2000)
print(pcall(error, { code = 7 }), select(2, pcall(function() local t = nil; return t.x end)))
print(select(2, pcall(string.rep, "x", 1 << 60)))
local pipe = io.popen("seq 1 3; exit 4") print(pipe:read("a"), pipe:close()) print(os.execute("kill -9 $$"))
local name = os.tmpname() local file = io.open(name, "w") file:write(("line\n"):rep(1000)) file:close()
local lines = 0 for _ in io.lines(name) do lines = lines + 1 end print(lines, os.remove(name))
print(("The quick brown fox"):gsub("%w+", string.reverse)) print(string.pack(">I4z", 77, "text"):byte(1, -1))
local function deep(n) return n == 0 and 0 or 1 + deep(n - 1) end print(deep(10000), pcall(deep, 1e7) == false)
os.exit(9, true)
"""

TCL = r"""
package require Thread
set pool [tpool::create -minworkers 3 -maxworkers 3]
foreach n {1 2 3 4 5 6 7 8} { lappend jobs [tpool::post -nowait $pool "expr {$n * 1000}"] }
foreach job $jobs { tpool::wait $pool $job; lappend results [tpool::get $pool $job] }
puts $results; tpool::release $pool
foreach n {1 2 3 4} { lappend ids [thread::create -joinable] }
foreach id $ids { lappend sums [thread::send $id {for {set i 0} {$i < 5000} {incr i} { incr s $i }; set s}] }
tsv::set counts n 0
foreach id $ids { thread::send -async $id {for {set i 0} {$i < 500} {incr i} { tsv::incr counts n }; thread::release} }
foreach id $ids { thread::join $id }; puts "$sums [tsv::get counts n]"
proc serve {channel args} { gets $channel line; puts $channel [string toupper $line]; close $channel }
set server [socket -server serve -myaddr 127.0.0.1 0]
set client [socket -async 127.0.0.1 [lindex [fconfigure $server -sockname] 2]]
fconfigure $client -blocking 0 -buffering line
puts $client "over tcp"; fileevent $client readable { set answer [gets $client] }
vwait answer; puts $answer; close $client; close $server
set ticks 0; proc tick {} { global ticks; if {[incr ticks] < 20} { after 2 tick } else { set ::over 1 } }
after 2 tick; vwait over; puts $ticks
puts [exec seq 1 100 | sort -r -n | head -2]; puts [catch { exec sh -c "exit 4" } result options]; puts $result
for {set i 0} {$i < 20000} {incr i} { dict set d k[expr {$i % 700}] $i; lappend l $i } ;
puts "[dict size $d] [llength $l]"
puts [regexp -all {9+} $l] ; puts [string length [zlib compress [string repeat abc 10000]]]; puts [expr {2 ** 300}]
interp create inner; puts [inner eval { proc f n { expr {$n < 2 ? $n : [f [expr {$n-1}]] + [f [expr {$n-2}]]} };
f 15 }]; interp delete inner
exit 6
"""

# Neither caches beside the sources, nor an order of sets that is another each time.
PYTHON_ENVIRONMENT = {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}


class Interpreters(programs.Programs):
    def write(self, name, text):
        return lambda: (self.work / name).write_text(text)

    def check_python(self, env=None):
        self.check_works(
            "python3", "program.py", status=3, err=b"to stderr\n", env={**PYTHON_ENVIRONMENT, **(env or {})},
            prepare=self.write("program.py", PYTHON),
        )  # fmt: skip

    def test_python(self):
        self.check_python()

    def test_perl(self):
        self.check_works("perl", "program.pl", status=6, err=b"a warning\n", prepare=self.write("program.pl", PERL))

    def test_lua(self):
        self.check_works("lua5.4", "program.lua", status=9, prepare=self.write("program.lua", LUA))

    def test_tcl(self):
        self.check_works("tclsh", "program.tcl", status=6, prepare=self.write("program.tcl", TCL))


if __name__ == "__main__":
    programs.main()
