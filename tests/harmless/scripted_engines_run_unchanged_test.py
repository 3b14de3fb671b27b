# SPDX-License-Identifier: Apache-2.0
"""Machines for other languages, which compile as they run: node (V8) and Java, with threads and children."""

import harmless

NODE = r"""
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const { execFile, fork, spawnSync } = require('child_process');
const crypto = require('crypto'), fs = require('fs'), http = require('http'), zlib = require('zlib');
const { promisify } = require('util');
const hash = (x) => crypto.createHash('sha256').update(x).digest('hex').slice(0, 16);

if (!isMainThread) {
  // What a worker computes: hot enough to be compiled, and with a heap to collect.
  let sum = 0, kept = [];
  for (let i = 0; i < 200000; i++) {
    kept[i % 1000] = { n: i, text: 'x' + (i * workerData) };
    sum = (sum + kept[(i * 7) % 1000 < kept.length ? (i * 7) % 1000 : 0].text.length * i) % 1000003;
  }
  parentPort.postMessage({ sum, id: workerData });
} else if (process.argv[2] === 'child') {
  process.on('message', (m) => { process.send({ got: m.n * 2 }); process.disconnect(); });
} else main();

async function main() {
  const say = (...words) => console.log(...words);
  const workers = await Promise.all([1, 2, 3, 4].map((n) => new Promise((resolve, reject) => {
    new Worker(__filename, { workerData: n }).on('message', resolve).on('error', reject);
  })));
  say('workers', JSON.stringify(workers));

  const stopped = await new Promise((resolve) => {
    const w = new Worker('for (;;) {}', { eval: true });
    w.on('online', () => w.terminate().then(resolve));
  });
  say('stopped worker', stopped);

  const child = await new Promise((resolve) => {
    const c = fork(__filename, ['child']);
    c.on('message', (m) => resolve(m));
    c.send({ n: 21 });
  });
  say('child', JSON.stringify(child));
  const shell = await promisify(execFile)('/bin/sh', ['-c', 'echo out; echo err >&2; cat /dev/null']);
  say('sh', JSON.stringify(shell));
  const ended = spawnSync('/bin/sh', ['-c', 'kill -TERM $$']);
  say('ended by', ended.status, ended.signal);

  // libuv's pool of threads.
  const key = await promisify(crypto.pbkdf2)('secret', 'salt', 3000, 32, 'sha256');
  const text = Buffer.alloc(300000, 'the same text again and again, ');
  const packed = await Promise.all([1, 5, 9].map((level) => promisify(zlib.deflate)(text, { level })));
  say('pool', hash(key), packed.map((p) => p.length), hash(await promisify(zlib.inflate)(packed[1])));
  await Promise.all([...Array(20).keys()].map((n) => fs.promises.writeFile(`file${n}`, text.subarray(0, n * 1000))));
  say('files', fs.readdirSync('.').sort().join());

  const server = http.createServer((request, response) => {
    const parts = [];
    request.on('data', (part) => parts.push(part));
    request.on('end', () => {
      response.writeHead(request.url === '/none' ? 404 : 200, { 'Content-Type': 'text/plain' });
      response.end(`${request.method} ${request.url} ${hash(Buffer.concat(parts))}`);
    });
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const ask = (n) => new Promise((resolve, reject) => {
    const options = { port: server.address().port, path: n % 10 ? `/path${n}` : '/none', method: 'POST', agent: false };
    const request = http.request(options, (response) => {
      let body = '';
      response.on('data', (part) => { body += part; }).on('end', () => resolve(`${response.statusCode} ${body}`));
    });
    request.on('error', reject);
    request.end(text.subarray(0, n * 500));
  });
  const answers = await Promise.all([...Array(60).keys()].map(ask));
  say('http', hash(answers.join('\n')), answers[0], answers[59]);
  server.close();

  process.on('SIGUSR2', () => { say('SIGUSR2'); clearInterval(alive); finish(); });
  const alive = setInterval(() => {}, 1000);
  process.kill(process.pid, 'SIGUSR2');
  function finish() {
    try { null.property; } catch (error) { say(error.message); }
    process.on('exit', (code) => { say('exit', code); });
    process.exitCode = 3;
  }
}
"""

# By Rhino, a JavaScript for Java: the runtime comes without a compiler for Java itself.
JAVA = r"""
importPackage(java.util, java.util.concurrent, java.util.zip, java.io, java.lang);
function say() { print(Array.prototype.slice.call(arguments).join(' ')); }

var pool = Executors.newFixedThreadPool(4);
var tasks = [];
for (var t = 0; t < 8; t++) {
  (function (t) {
    tasks.push(pool.submit(new Callable({ call: function () {
      var crc = new CRC32(), map = new java.util.TreeMap();
      for (var i = 0; i < 4000; i++) {
        map.put(new java.lang.Integer((i * 31 + t) % 977), 'text' + i);
        if (i % 50 == 0) crc.update(new java.lang.String(map.toString()).getBytes());
      }
      return 'task ' + t + ' ' + map.size() + ' ' + crc.getValue();
    } })));
  })(t);
}
for (var t = 0; t < 8; t++) say(tasks[t].get());
pool.shutdown();
say('pool ended', pool.awaitTermination(60, TimeUnit.SECONDS));

// The collector at work, with blocks that are freed outside of it.
var kept = new java.util.ArrayList();
for (var i = 0; i < 300; i++) {
  kept.add(java.nio.ByteBuffer.allocateDirect(20000));
  if (i % 100 == 99) { kept.clear(); System.gc(); }
}
say('collected');

// Implicit null checks and deep recursion are signals in this machine.
function deep(n) { return deep(n + 1) + 1; }
try { java.util.Collections.max(null); } catch (e) { say(e.javaException.getClass().getName()); }
try { java.lang.Class.forName('none.Such'); } catch (e) { say(e.javaException.getClass().getName()); }

var bytes = new ByteArrayOutputStream(), packed = new GZIPOutputStream(bytes);
for (var i = 0; i < 5000; i++) packed.write(new java.lang.String('line ' + i).getBytes());
packed.close();
say('packed', bytes.size());

var child = new ProcessBuilder(['/bin/sh', '-c', 'read line; echo "child: $line"; exit 7']).start();
child.getOutputStream().write(new java.lang.String('word\n').getBytes());
child.getOutputStream().close();
say(new BufferedReader(new InputStreamReader(child.getInputStream())).readLine(), child.waitFor());

var server = new java.net.ServerSocket(0, 50, java.net.InetAddress.getLoopbackAddress());
var serving = new java.lang.Thread(new Runnable({ run: function () {
  for (var i = 0; i < 30; i++) {
    var s = server.accept(), line = new BufferedReader(new InputStreamReader(s.getInputStream())).readLine();
    s.getOutputStream().write(new java.lang.String(line.length() + ':' + line + '\n').getBytes());
    s.close();
  }
} }));
serving.start();
for (var i = 0; i < 30; i++) {
  var s = new java.net.Socket(server.getInetAddress(), server.getLocalPort());
  s.getOutputStream().write(new java.lang.String('request ' + i + '\n').getBytes());
  say(new BufferedReader(new InputStreamReader(s.getInputStream())).readLine());
  s.close();
}
serving.join();

var monitor = new java.lang.Object(), turns = 0;
var wait = sync(function (m) { m.wait(50); return 'waited'; }, monitor);
say(wait(monitor));
Runtime.getRuntime().addShutdownHook(new java.lang.Thread(new Runnable({ run: function () {
  System.out.println('shutdown hook');
} })));
System.exit(5);
"""


class Engines(harmless.Case):
    def script(self, name, text):
        path = self.dir / name
        path.write_text(text)
        return path

    def test_node(self):
        plain = self.check_unchanged("/usr/bin/node", self.script("program.js", NODE))
        self.assertEqual(plain.status, 3, plain)

    def test_java(self):
        jars = "/usr/share/java/js.jar:/usr/share/java/jline.jar"
        main = "org.mozilla.javascript.tools.shell.Main"
        for options in (["-XX:+UseG1GC"], ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]):
            with self.subTest(options):
                command = ["/usr/bin/java", *options, "-Xmx200m", "-cp", jars, main, "-opt", "0"]
                plain = self.check_unchanged(*command, self.script("program.js", JAVA), ignored="hsperfdata")
                self.assertEqual(plain.status, 5, plain)


if __name__ == "__main__":
    harmless.main()
