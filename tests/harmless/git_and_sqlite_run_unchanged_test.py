# SPDX-License-Identifier: Apache-2.0
"""git and sqlite3: what they keep is equal, byte for byte, and consistent."""

import programs

# Neither names nor times of its own.
GIT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@b",
    "GIT_AUTHOR_DATE": "1600000000 +0000",
    "GIT_COMMITTER_NAME": "C",
    "GIT_COMMITTER_EMAIL": "c@d",
    "GIT_COMMITTER_DATE": "1600000001 +0000",
    "GIT_PAGER": "cat",
}
HISTORY = r"""
git init -q -b main one; cd one
git config gc.auto 0; git config pack.threads 1; git config core.fsmonitor false
for i in $(seq 12); do
  for j in 1 2 3; do seq $((i * j)) $((i * j + 400)) > file$j; done
  git add .; git commit -q -m "change $i" -m "with a text"
done
git checkout -q -b side main~5; echo side > other; git add other; git commit -q -m side
sed -i 's/^20$/twenty/' file1; git commit -q -am "side too"
git rebase -q main 2>&1 || { sed -n '/<<</,/>>>/p' file1 | wc -l; git checkout -q --theirs file1; git add file1
  GIT_EDITOR=true git rebase --continue 2>&1 | tail -n 1; }
git checkout -q main; git merge -q --no-edit side; git tag -a v1 -m 'tag one'
git log --graph --stat -p --find-renames | md5sum; git blame -s file1 | md5sum; git grep -n -E '(7|3)9$' | md5sum
echo changed >> file2; git stash -q; git stash pop -q; git diff --word-diff | tail -n 1; git checkout -q file2
git repack -q -a -d -f --threads=3; git fsck; git repack -q -a -d -F; git gc -q --prune=now; git fsck --strict
git count-objects -v | grep -v size
git verify-pack -v .git/objects/pack/*.idx | wc -l; git rev-parse HEAD v1
cd ..; git clone -q --no-local "file://$PWD/one" two; cd two; git config user.name B
for i in 1 2; do echo $i > new$i; git add .; git commit -q -m new$i; done; git push -q origin HEAD:pushed
cd ../one; git fetch -q "file://$PWD/../two" main:fetched; git rev-parse fetched pushed
git archive --format=tar --prefix=p/ v1 | md5sum; git bundle create -q ../bundle v1; git bundle verify -q ../bundle 2>&1
git bisect start -q HEAD HEAD~8 > /dev/null; git bisect run sh -c '! grep -q -x 30 file1' | tail -n 1
git bisect reset 2>&1 | head -n 1
git worktree add -q ../three v1 2>&1; ls ../three; git show no-such-revision 2>&1 | head -n 1
printf 'a\nb\n' | git hash-object --stdin -w --path x; git -c alias.x='!git log --oneline | wc -l' x
"""

TABLES = r"""
pragma journal_mode = wal; pragma threads = 2; pragma cache_size = 50;
create table t(id integer primary key, name text, value real, group_ integer);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000)
insert into t select i, printf('name %06d', i * 7919 % 20000), i * 1.5, i % 97 from n;
create index by_name on t(name); create index by_group on t(group_, value);
create virtual table words using fts5(text);
insert into words select name || ' ' || group_ from t limit 3000;
select count(*), round(sum(value), 2), min(name), max(name) from t where group_ between 10 and 40;
select group_, count(*) c, avg(value) from t group by group_ order by c desc, group_ limit 3;
select a.id, b.id from t a join t b on a.name = b.name and a.id <> b.id limit 3;
select count(*) from words where words match 'name* AND 42';
select json_group_array(id) from (select id from t order by value desc limit 5);
select sum(w) from (select sum(value) over (partition by group_ order by id rows 3 preceding) w from t);
begin; delete from t where id % 3 = 0; savepoint s; update t set name = upper(name); rollback to s; commit;
create trigger changed after update on t begin insert into words values ('changed ' || new.id); end;
update t set value = value + 1 where id < 200;
pragma integrity_check; vacuum; select count(*), sum(length(name)) from t;
select load_extension('no-such'); select * from none;
"""


class Git(programs.Programs):
    def test_history(self):
        # Indexes have times and inodes.
        self.check_script(HISTORY, "git", env=GIT, ignored=r"\.git/(index|logs/|worktrees/.*index)")


class Sqlite(programs.Programs):
    def prepare(self):
        (self.work / "tables.sql").write_text(TABLES)

    def test_shell(self):
        self.check_script(
            """
            sqlite3 -batch data.db < tables.sql 2>&1 || echo "sqlite3: $?"
            sqlite3 data.db .dump | md5sum; sqlite3 data.db '.backup copy.db'; sqlite3 copy.db .dump | md5sum
            sqlite3 -csv -header data.db 'select * from t limit 1000' > t.csv
            sqlite3 second.db '.mode csv' '.import t.csv t' 'select count(*), sum(id) from t'
            """,
            "sqlite3", prepare=self.prepare, ignored=r"-shm$",
        )  # fmt: skip

    def test_processes_share_a_database(self):
        self.check_script(
            """
            sqlite3 shared.db 'create table t(who, n)' 'pragma journal_mode = wal'
            for who in 1 2 3; do
              (for n in $(seq 15); do echo "insert into t values($who, $n);"; done |
                sqlite3 -cmd '.timeout 60000' shared.db) &
            done; wait
            sqlite3 shared.db 'select who, count(*), sum(n) from t group by who' 'pragma integrity_check'
            """,
            "sqlite3", ignored="shared.db",
        )  # fmt: skip


if __name__ == "__main__":
    programs.main()
