# SPDX-License-Identifier: Apache-2.0
"""ImageMagick, whose OpenMP threads work on one picture: the files it writes are equal in each byte."""

import harmless

CONVERT = "/usr/bin/convert-im6.q16"


class Pictures(harmless.Case):
    def test_conversions(self):
        script = f"""
set -e
# The time of writing would be in each file.
convert() {{ {CONVERT} "$@"; }}
exclude='-define png:exclude-chunks=date,time +set date:create +set date:modify +set date:timestamp'
convert -size 300x200 gradient:navy-gold -swirl 120 -depth 8 start.ppm
convert start.ppm -resize 220% -blur 0x3 -sharpen 0x1 $exclude large.png
convert start.ppm -rotate 33 -quality 85 -sampling-factor 4:2:0 turned.jpg
convert turned.jpg -colorspace Gray -edge 2 -negate $exclude edges.png
convert start.ppm rose: logo: -resize 90x90! +append -colors 32 $exclude strip.gif
convert logo: -statistic Median 5x5 -morphology Dilate Disk:2 $exclude middle.png
convert rose: wizard: -resize 100x100 -background white -gravity center -extent 120x120 $exclude pages.tiff
convert pages.tiff $exclude page-%d.ppm
for file in *.png *.jpg *.gif *.ppm; do
  /usr/bin/identify-im6.q16 -format '%f %m %w %h %k %# \\n' $file
done
convert none.png none.jpg || echo "status $?"
"""
        environment = {"OMP_NUM_THREADS": "3", "MAGICK_THREAD_LIMIT": "3"}
        plain = self.check_unchanged("/bin/sh", "-c", script, env=environment, ignored="tiff$")
        self.assertEqual(plain.status, 0, plain)
        self.assertIn("page-1.ppm", plain.files)


if __name__ == "__main__":
    harmless.main()
