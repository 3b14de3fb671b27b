# SPDX-License-Identifier: Apache-2.0
"""Shells and the small programs that scripts are made of."""

import programs

EVERY_SHELL = r"""
set -eu
for i in 1 2 3 4 5; do
  seq 1 $((i * 1000)) | sort -r -n | head -n 3 | tr '\n' ' ' | sed -e "s/^/$i: /"
  echo
done > lines
( trap 'echo child ends' EXIT; exit 3 ) || echo "subshell: $?"
cut -d: -f1 lines | paste -s -d+ - | tee sum
wc -l < lines
mkdir -p a/b/c; : > a/b/c/file; cp -a a copy; find copy -type f | sort

# Signals: to itself, to a child that sleeps, and what a child that is killed leaves.
trap 'echo got USR1' USR1
kill -USR1 $$
sh -c 'trap "echo child got TERM; exit 9" TERM; echo > ready; while :; do sleep 0.01; done' & child=$!
until [ -e ready ]; do sleep 0.01; done
kill -TERM $child; wait $child || echo "child: $?"
sleep 100 & kill -KILL $!; wait $! 2>/dev/null || echo "killed: $?"

# Descriptors: opened, moved, closed; here documents; a reader that goes away.
exec 5>by-number; echo five >&5; exec 5>&-; cat by-number
cat <<END
$(echo here; echo document)
END
(yes 2>&1 || echo never) | head -n 2
echo no 2>/dev/null >/dev/full || echo "full: $?"
ulimit -S -n 32; ulimit -n
no-such-program 2>/dev/null || echo "not found: $?"
count=0; while [ $count -lt 2000 ]; do count=$((count + 1)); text="$count$count"; done; echo "$text"
exec sh -c 'kill -TERM $$'
"""

BASH = r"""
set -eu
mapfile -t lines < <(seq 1 500 | shuf --random-source=<(yes))
printf '%s\n' "${lines[@]}" | md5sum
declare -A squares; for i in {1..300}; do squares[$i]=$((i * i)); done
echo "${#squares[@]} ${squares[17]}"
coproc sed -u 's/^/co: /'
echo one >&"${COPROC[1]}"; read -r answer <&"${COPROC[0]}"; echo "$answer"
exec {COPROC[1]}>&-; wait "$COPROC_PID"
false | true | (exit 4) || echo "${PIPESTATUS[@]}"
pids=; for i in 1 2 3 4 5 6; do (exit $i) & pids+=" $!"; done
ended=0; for pid in $pids; do wait $pid || ended=$((ended + $?)); done; echo "ended $ended"
read -r -t 0.05 nothing < <(sleep 1) || echo "read timed out: $(($? > 128))"
set -m; sleep 100 & kill -KILL %1; wait %1 2>/dev/null || echo "job: $?"
"""

ZSH = r"""
setopt err_exit no_unset
zmodload zsh/datetime zsh/system zsh/zselect
typeset -A sizes; for i in {1..300}; do sizes[$i]=$((i * 2.5)); done
print ${#sizes} ${sizes[7]}
print -l {a..e}*{1..3}(N) ; : > a1 > b2 > c3
print -l *(.on)
diff <(seq 1 20) <(seq 1 2 20) | md5sum
paste =(seq 3) =(seq 4 6)
coproc tr a-z A-Z; print -p shout; exec 3<&p; exec 4>&p 4>&-; coproc :; cat <&3
TRAPUSR1() { print "got USR1" }; kill -USR1 $$
sysopen -r -u 6 a1; exec 6<&-
print ${(j:,:)${(on)${(s: :)$(echo 3 1 2)}}}
"""

TEXT = r"""
seq 1 60000 | awk '{ print $1 * 7919 % 60000, "line", $1 }' > numbers
sort --parallel=4 -S 100K -n numbers > sorted; md5sum < sorted
sort --parallel=2 -k3,3r -k1,1 numbers | tail -n 2
sort -u -m sorted sorted | wc -l
shuf --random-source=numbers -n 5 numbers
grep -c 99 numbers; grep -E -o '(1|2)+3$' numbers | sort | uniq -c | sort -rn | head -n 3
grep -P '^(\d)\1+ ' numbers | md5sum; seq 1 400 | grep -F -w -f - -c numbers
sed -n -E 's/^([0-9]+) line ([0-9]+)$/\2-\1/p' numbers | sed -e '1!G;h;$!d' -e 10q | md5sum
sed -i.old -e '/9/d' numbers; cmp numbers numbers.old || echo "cmp: $?"
split -n l/5 --numeric-suffixes numbers piece; wc -l piece*
csplit -s -f part numbers 100 '/777/'; sha256sum part00 part01
sort part00 > a; sort -r piece00 | sort > b; join a b | tail -n 2; comm -12 a b | md5sum
tac numbers | od -A d -t x1z | tail -n 2
base64 -w 50 piece00 | base64 -d | cmp - piece00
tail -n 100 numbers | pr -3 -t | fold -w 40 | expand | cksum
printf 'a b\nb c\nc d\n' | tsort; factor 18446744073709551557; numfmt --to=iec 123456789
stdbuf -oL tr a-z A-Z < part00 | tail -n 1
diff -u --label a --label b numbers piece00 > change || echo "diff: $?"; tail -n 2 change
patch -s -R -o - piece00 < change | cmp - numbers
echo '2^500; scale=50; a(1)*4' | bc -l
dd if=numbers of=copy bs=1000 count=20 status=none; md5sum copy
timeout 0.05 sleep 100 || echo "timeout: $?"
env -i /bin/echo bare; nice -n 3 nice; nohup echo no terminal
sort no-such-file 2>&1 || echo "sort: $?"
cat numbers > /dev/full 2>error || cat error
"""

AWK = r"""
BEGIN {
  for (i = 1; i <= 20000; i++) { count[i % 977] += i; text = text sprintf("%c", 65 + i % 26) }
  for (key in count) sum += key * count[key]
  print sum, length(text), substr(text, 1000, 30)
  n = split("z y x w", parts); print n, parts[4]
  while (("seq 1 300" | getline line) > 0) total += line
  print total, close("seq 1 300")
  for (i = 200; i; i--) print i, i * i % 37 | "sort -n -k2,2 -k1,1 | tail -n 2"
  print close("sort -n -k2,2 -k1,1 | tail -n 2")
  print system("exit 3")
  gsub(/[AEIOU]+/, "<&>", text); print length(text)
  exit 7
}
"""

FILES = r"""
mkdir -p tree; i=0
while [ $i -lt 60 ]; do mkdir -p tree/d$((i % 7)); echo "file $i" > tree/d$((i % 7))/f$i; i=$((i + 1)); done
ln -s d1 tree/link; ln tree/d2/f2 tree/hard
find tree -type f -name '*1*' -exec md5sum {} + | sort -k2
find tree -type f -name 'f2*' -exec sh -c 'cat "$1"' - {} \; | sort
find tree -name 'f*' -print0 | xargs -0 -P 4 -n 5 wc -c | grep -v total | sort -k2 | md5sum
seq 1 40 | xargs -P 8 -I @ sh -c 'echo $((@ * @))' | sort -n | tail -n 2
echo 1 2 3 | xargs -n 1 -P 2 sh -c 'exit $0' || echo "xargs: $?"
find tree -type f -delete -o -type l -print
cp -a tree copy; mv copy moved; rm -r tree; ls -R moved
install -D -m 640 /etc/passwd some/where/file; stat -c %a-%F some/where/file
truncate -s 1M sparse; du --apparent-size sparse; mkfifo fifo
(cat < fifo > through) & seq 1 1000 > fifo; wait; md5sum through
chmod 000 some; chmod 755 some; rmdir moved/d3; realpath --relative-to=. some/where/../where/file
rsync -a --exclude=where some/ mirror; rsync -a -i -O --delete moved/ mirror | sort | head -n 3
"""


class Shells(programs.Programs):
    def check_shell(self, *command):
        # The last thing that a shell does is to let itself be killed.
        self.check_works(*command, "-c", EVERY_SHELL, status=-15, ignored="^(ready)$")

    def test_dash(self):
        self.check_shell("dash")

    def test_bash(self):
        self.check_shell("bash")
        self.check_works("bash", "-c", BASH)

    def test_mksh(self):
        self.check_shell("mksh")

    def test_zsh(self):
        self.check_works("zsh", "-f", "-c", ZSH)


class Tools(programs.Programs):
    def test_text(self):
        self.check_script(TEXT, "patch", "bc")

    def test_awk(self):
        self.check_works("mawk", AWK, status=7)
        self.check_works("gawk", AWK, status=7)

    def test_files_and_children(self):
        self.check_script(FILES, "rsync")


if __name__ == "__main__":
    programs.main()
