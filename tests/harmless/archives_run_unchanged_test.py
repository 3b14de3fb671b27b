# SPDX-License-Identifier: Apache-2.0
"""Archivers and compressors, with threads and with children: the same bytes, in both directions."""

import random

import programs

TAR = "tar --sort=name --mtime=@1600000000 --owner=0 --group=0 --numeric-owner"


class Archives(programs.Programs):
    def prepare(self):
        chance = random.Random(7)
        words = ["".join(chance.choices("abcdefghij", k=5)) for _ in range(300)]
        tree = self.work / "tree"
        for number in range(40):
            folder = tree / f"d{number % 6}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"f{number}").write_text(" ".join(chance.choices(words, k=2500)))
        (tree / "random").write_bytes(chance.randbytes(100000))
        (tree / "link").symlink_to("d1")
        (self.work / "large").write_text(" ".join(chance.choices(words, k=300000)))

    def check_packs(self, script, *needed, **options):
        return self.check_script(script, *needed, prepare=self.prepare, **options)

    def test_tar(self):
        self.check_packs(
            f"""
            {TAR} -cf plain.tar tree; {TAR} -czf a.tar.gz tree; {TAR} -cJf a.tar.xz tree
            {TAR} --zstd -cf a.tar.zst tree
            md5sum plain.tar a.*; tar -tvf a.tar.xz | tail -n 3; tar -df plain.tar | wc -l
            tar -C / -tf "$PWD/a.tar.zst" | wc -l
            for packed in a.*; do mkdir out; tar -C out -xf $packed; diff -r tree out/tree; rm -r out; done
            {TAR} -cf - tree | (mkdir out; cd out; tar -xf -); diff -r tree out/tree
            head -c 50000 a.tar.gz | tar -tzf - > /dev/null 2>error || echo "cut: $?"; sort error
            """,
            "xz", "zstd",
        )  # fmt: skip

    def test_threads(self):
        self.check_packs(
            """
            xz -T2 -2 --block-size=300KiB -k -c large | tee large.xz | xz -T2 -dc | cmp - large
            zstd -q -T2 -6 -B300K large -o large.zst; zstd -q -T2 -dc large.zst | cmp - large
            pigz -p 3 -n -c large | tee large.gz | pigz -dc | cmp - large; gzip -t large.gz
            md5sum large.*; xz --robot -l large.xz | tail -n 1; zstd -q -b1 -i0 large > /dev/null 2>&1
            xz -T2 -2 -M 1MiB --no-adjust -c large 2>&1 > /dev/null | tail -n 1
            zstd -q --train tree/d?/* -o dictionary 2>/dev/null; zstd -q -D dictionary tree/d1/f1 -c | md5sum
            """,
            "xz", "zstd", "pigz",
        )  # fmt: skip

    def test_one_by_one(self):
        self.check_packs(
            """
            gzip -9 -n -k large; bzip2 -k large; md5sum large.*; gzip -dc large.gz | cmp - large
            bzip2 -dc large.bz2 | cmp - large
            echo damaged > x.gz; gzip -d x.gz 2>&1 || echo "gzip: $?"
            printf 'BZh9damaged' | bzip2 -dc 2>&1 || echo "bzip2: $?"
            """,
            "bzip2",
        )  # fmt: skip

    def test_zip(self):
        self.check_packs(
            """
            find tree -exec touch -h -d @1600000000 {} +
            find tree | sort | zip -q -X -y -@ a.zip; md5sum a.zip; unzip -q -d out a.zip; diff -r tree out/tree
            unzip -Z1 a.zip | wc -l; unzip -tq a.zip; unzip -p a.zip tree/d1/f1 | cmp - tree/d1/f1
            head -c 20000 a.zip > cut.zip; unzip -tq cut.zip 2>&1 || echo "unzip: $?"
            """,
            "zip", "unzip",
        )  # fmt: skip


if __name__ == "__main__":
    programs.main()
