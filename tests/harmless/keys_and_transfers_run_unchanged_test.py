# SPDX-License-Identifier: Apache-2.0
"""openssl, ssh-keygen, ssh-agent and curl: what is signed is checked, what is sent arrives."""

import http.server
import re
import threading

import programs

KEYS = r"""
openssl genpkey -quiet -algorithm ED25519 -out key.pem 2>/dev/null || openssl genpkey -algorithm ED25519 -out key.pem
seq 1 200000 > data
for digest in sha256 sha3-512 blake2b512 md5; do openssl dgst -$digest data; done
openssl dgst -sha256 -hmac secret data
for cipher in aes-256-cbc aes-128-ctr chacha20 camellia-192-cbc; do
  openssl enc -$cipher -pbkdf2 -S 0011223344556677 -pass pass:word -in data -out data.$cipher
  openssl enc -d -$cipher -pbkdf2 -S 0011223344556677 -pass pass:word -in data.$cipher | cmp - data
done
openssl enc -aes-256-cbc -pbkdf2 -iter 20000 -S 0011223344556677 -pass pass:word -in data | openssl dgst -sha1
openssl genrsa -out random.pem 1024 2>/dev/null; openssl rsa -in random.pem -check -noout
openssl pkey -in random.pem -pubout -out random.pub; openssl dgst -sha256 -sign random.pem -out random.sig data
openssl dgst -sha256 -verify random.pub -signature random.sig data
openssl req -x509 -key fixed.pem -subj /CN=test/O=x -set_serial 7 -days 1000 -sha256 -out cert.pem
openssl x509 -in cert.pem -noout -subject -serial -ext basicConstraints; openssl verify -CAfile cert.pem cert.pem
openssl asn1parse -in fixed.pem | head -n 3
openssl pkeyutl -sign -inkey fixed.pem -rawin -in cert.txt -digest sha256 | md5sum
openssl s_client -connect 127.0.0.1:1 2>&1 < /dev/null | head -n 1 | cut -d: -f2-
openssl x509 -in cert.txt 2>&1 | head -n 1; openssl prime -generate -bits 256 | wc -l
openssl speed -help 2>&1 | head -n 1
"""
TLS = r"""
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
  -keyout k.pem -out c.pem -subj /CN=localhost -days 9 2>/dev/null
openssl s_server -quiet -accept 127.0.0.1:$PORT -cert c.pem -key k.pem -rev -naccept 1 2>/dev/null & server=$!
until grep -q ":$(printf %04X $PORT) 00000000:0000 0A" /proc/net/tcp; do sleep 0.02; done
touch answer
(echo line to turn; while [ ! -s answer ]; do sleep 0.02; done) |
  openssl s_client -quiet -no_ign_eof -CAfile c.pem -verify_return_error -connect 127.0.0.1:$PORT 2>/dev/null > answer
cat answer; wait $server
"""
SSH = r"""
cp fixed.pem key; chmod 600 key; ssh-keygen -q -y -f key > key.pub; ssh-keygen -l -v -f key.pub | head -n 2
ssh-keygen -l -E md5 -f key
echo message > m; ssh-keygen -q -Y sign -n file -f key m 2>&1; echo "me $(cat key.pub)" > allowed
ssh-keygen -Y verify -f allowed -I me -n file -s m.sig < m
echo other | ssh-keygen -Y verify -f allowed -I me -n file -s m.sig 2>&1 || echo "$?"
for type in ed25519 ecdsa; do ssh-keygen -q -t $type -N '' -C c -f new-$type
ssh-keygen -y -f new-$type | cut -d' ' -f1; done
ssh-keygen -q -s new-ed25519 -I id -n me -V 20200101:20300101 -z 5 key.pub
ssh-keygen -L -f key-cert.pub | sed -n '2p;5,9p'
ssh-keygen -q -p -a 5 -N secret -f new-ed25519 > /dev/null; ssh-keygen -q -y -P wrong -f new-ed25519 2>&1 | tail -n 1
eval "$(ssh-agent -s -a "$TMPDIR/agent")" > /dev/null; export SSH_AUTH_SOCK; ssh-add -q key
ssh-add -l | cut -d' ' -f1,2
ssh-keygen -q -Y sign -n file -f key.pub m 2>&1; ssh-add -D 2>&1; ssh-add -l || echo "$?"
ssh-agent -k | cut -d' ' -f1-2
ssh -F none -o BatchMode=yes -p 1 127.0.0.1 true 2>&1 || echo "ssh: $?"
"""
CURL = r"""
base=http://127.0.0.1:$PORT
curl -sS $base/numbers | md5sum; curl -sS -i $base/hello | tr -d '\r' | grep -v '^Date'
curl -sS --no-progress-meter -Z --parallel-max 5 -o 'part#1' "$base/part/[1-12]" 2>&1; cat part1 part12
curl -sS -d @part3 $base/upper; curl -sS -T part4 $base/put; curl -sS -F f=@part5 $base/form | wc -l
curl -sS -C 500 $base/numbers | md5sum
curl -sS -L -o moved -w '%{http_code} %{num_redirects} %{size_download}\n' $base/moved
curl -sS -f $base/none 2>&1 || echo "curl: $?"; curl -sS -m 0.2 $base/slow > /dev/null 2>&1 || echo "slow: $?"
curl -sS --limit-rate 2M $base/numbers | tail -c 20; curl -sS "http://localhost:$PORT/hello"; curl -sS file://$PWD/part1
curl -sS http://127.0.0.1:1/ 2>&1 | sed 's/after .* ms/after ms/'
curl -sS http://no.such.host.invalid/ 2>&1 || echo "$?"
curl -sS --compressed -H 'X: y' -A agent -b c=d $base/headers
"""

# Made once for these tests; it keeps nothing safe.
FIXED_KEY_BITS = 1024


class Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    over = threading.Event()

    def answer(self, body, status=200, **headers):
        self.send_response(status)
        for name, value in {"Content-Length": len(body), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        numbers = b"".join(b"%d\n" % i for i in range(100000))
        if self.path == "/numbers" and (begin := self.headers.get("Range")):
            begin = int(re.search(r"\d+", begin)[0])
            span = f"bytes {begin}-{len(numbers) - 1}/{len(numbers)}"
            self.answer(numbers[begin:], 206, **{"Content-Range": span})
        elif self.path == "/numbers":
            self.answer(numbers)
        elif self.path.startswith("/part/"):
            self.answer(b"this is %s\n" % self.path.encode() * 20)
        elif self.path == "/moved":
            self.answer(b"", 302, Location="/numbers")
        elif self.path == "/slow":
            self.over.wait(60)
        elif self.path == "/headers":
            lines = [f"{name}: {value}\n" for name, value in self.headers.items() if name != "Host"]
            self.answer("".join(lines).encode())
        else:
            self.answer(b"hello\n", 200 if self.path == "/hello" else 404)

    def do_POST(self):
        self.answer(self.rfile.read(int(self.headers["Content-Length"])).upper())

    do_PUT = do_POST

    def version_string(self):
        return "test"

    def log_message(self, *_):
        pass


class Keys(programs.Programs):
    @classmethod
    def setUpClass(cls):
        command = ["openssl", "genrsa", "-traditional", str(FIXED_KEY_BITS)]
        cls.fixed = programs.harmless.subprocess.run(command, capture_output=True, check=True).stdout

    def prepare(self):
        (self.work / "fixed.pem").write_bytes(self.fixed)
        (self.work / "cert.txt").write_text("text\n")

    def test_openssl(self):
        ignored = r"^(key\.pem|random\..*|cert\.pem)$"
        self.check_script(KEYS, "openssl", prepare=self.prepare, ignored=ignored)

    def test_openssl_speed(self):
        def clean(text):
            return re.sub(rb"[\d.]+(s|k)?\b|^(version|built on|options|compiler|CPUINFO):.*$", b"#", text, flags=re.M)

        command = ["openssl", "speed", "-seconds", "1", "-bytes", "1024", "sha256"]
        plain = self.check_unchanged(*command, clean=clean)
        self.assertEqual(plain.status, 0, plain)
        self.assertIn(b"bytes per second processed", plain.out)

    def test_tls(self):
        self.check_script(TLS, "openssl", ignored=r"\.pem$", env={"PORT": str(programs.harmless.harness.free_port())})

    def test_ssh_keygen_and_agent(self):
        self.check_script(SSH, "ssh-keygen", "ssh-agent", prepare=self.prepare, ignored="^(new-|key-cert)")


class Transfers(programs.Programs):
    def test_curl(self):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        server.daemon_threads = True
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        self.addCleanup(server.server_close)
        self.addCleanup(serving.join)
        self.addCleanup(server.shutdown)
        self.addCleanup(Answers.over.set)
        self.check_script(CURL, "curl", env={"PORT": str(server.server_address[1])})


if __name__ == "__main__":
    programs.main()
