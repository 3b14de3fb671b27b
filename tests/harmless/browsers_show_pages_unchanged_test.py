# SPDX-License-Identifier: Apache-2.0
"""Chromium without a window: many processes, an allocator of its own, a zygote that forks them all.

What is compared is the page after its scripts have run. Of the lines on stderr no two runs have the same.
"""

import subprocess

import harmless
import harness

CHROMIUM = "/usr/lib/chromium/chromium"
AS_NOBODY = ["/usr/bin/setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
OPTIONS = [
    "--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--allow-file-access-from-files",
]  # fmt: skip

# The page is not loaded, and not shown, before the frame is that the script keeps open.
PAGE = r"""<!doctype html><html><head><title>page</title></head><body><ul id=list></ul>
<canvas id=canvas width=64 height=64></canvas><iframe srcdoc="<p>inner</p>"></iframe>
<script type=module>
const say = (...words) => {
  const item = document.createElement('li');
  item.textContent = words.join(' ');
  document.getElementById('list').append(item);
};
const frame = document.createElement('iframe');
document.body.append(frame);
frame.contentDocument.open();
const mix = (items) => { let h = 7; for (const i of items) h = (h * 31 + i) >>> 0; return h; };

let kept = [], sum = 0;
for (let i = 0; i < 200000; i++) {
  kept[i % 5000] = { i, text: 'x' + i };
  sum = (sum + kept[(i * 7) % Math.min(i + 1, 5000)].text.length * i) % 1000003;
}
say('computed', sum);
say('sorted', mix([...Array(20000).keys()].map((n) => (n * 7919) % 20011).sort((a, b) => a - b)));
say('text', JSON.stringify({ a: [1, 2, { b: 'c' }] }).replace(/\d/g, (d) => d * 2), 'äöü'.normalize('NFD').length);

const program = `onmessage = (e) => {
  let s = 0;
  for (let i = 0; i < e.data * 1e5; i++) s = (s + i * i) % 9973;
  postMessage(s);
}`;
const url = URL.createObjectURL(new Blob([program], { type: 'text/javascript' }));
const work = (n) => new Promise((done, fail) => {
  const worker = new Worker(url);
  worker.onmessage = (e) => { worker.terminate(); done(e.data); };
  worker.onerror = fail;
  worker.postMessage(n);
});
say('workers', await Promise.all([1, 2, 3, 4].map(work)));

const wasm = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 7, 1, 96, 2, 127, 127, 1, 127, 3, 2, 1, 0, 7, 7, 1, 3, 97,
  100, 100, 0, 0, 10, 9, 1, 7, 0, 32, 0, 32, 1, 106, 11]);
say('wasm', (await WebAssembly.instantiate(wasm)).instance.exports.add(40, 2));

const context = document.getElementById('canvas').getContext('2d');
for (let i = 0; i < 8; i++) {
  context.fillStyle = `rgb(${i * 30}, ${255 - i * 30}, 128)`;
  context.fillRect(i * 8, 0, 8, 64);
}
say('drawn', mix(context.getImageData(0, 0, 64, 64).data));

const stream = new Blob(['the same text again and again, '.repeat(3000)]).stream();
const packed = stream.pipeThrough(new CompressionStream('gzip')).pipeThrough(new DecompressionStream('gzip'));
say('unpacked', (await new Response(packed).text()).length);

await new Promise((done) => setTimeout(done, 20));
const rows = Array.from({ length: 300 }, (_, n) => `<tr><td>${n}</td><td>${n * n}</td></tr>`).join('');
const table = document.createElement('table');
table.innerHTML = rows;
document.body.append(table);
say('laid out', table.rows.length, table.offsetHeight > 300, getComputedStyle(table).display);
try { null.property; } catch (error) { say(error.message); }
frame.contentDocument.close();
</script></body></html>
"""


class Chromium(harmless.Case):
    def setUp(self):
        super().setUp()
        self.dir.chmod(0o755)
        self.page = self.dir / "page.html"
        self.page.write_text(PAGE)

    def show(self, environment, *options, runner=()):
        subprocess.run(["rm", "-rf", self.work], check=True)
        self.work.mkdir()
        self.work.chmod(0o777)
        command = [*runner, CHROMIUM, *OPTIONS, *options, f"--user-data-dir={self.work}/profile"]
        home = {"HOME": "", "XDG_CONFIG_HOME": "/config", "XDG_CACHE_HOME": "/cache"}
        home = {name: f"{self.work}{folder}" for name, folder in home.items()}
        outcome = self.run_watched(*command, "--dump-dom", f"file://{self.page}", environment=environment, env=home)
        outcome.err = b""
        return outcome

    def check(self, *options, runner=()):
        plain = self.check_same(lambda environment: self.show(environment, *options, runner=runner))
        self.assertEqual(plain.status, 0, plain)
        for line in (b"<li>wasm 42</li>", b"<li>laid out 300 true table</li>"):
            self.assertIn(line, plain.out)

    def test_without_its_sandbox(self):
        self.check("--no-sandbox")

    def test_with_its_sandbox(self):
        """As another user: with namespaces, another root and filters of system calls."""
        self.check(runner=AS_NOBODY)

    def test_one_process(self):
        self.check("--no-sandbox", "--single-process")


if __name__ == "__main__":
    harmless.main()
