# SPDX-License-Identifier: Apache-2.0
"""Pure Python that allocates much: trees, dictionaries of strings, JSON there and back."""

import json
import sys


class Node:
    def __init__(self, depth):
        self.children = (Node(depth - 1), Node(depth - 1)) if depth else ()

    def count(self):
        return 1 + sum(child.count() for child in self.children)


def make_words(count):
    return {f"key-{i * 7919 % count}": [i, str(i), (i, i + 1)] for i in range(count)}


def main(rounds):
    kept = []
    total = 0
    for number in range(rounds):
        total += Node(11).count()
        words = make_words(4000)
        text = json.dumps(words)
        total += len(json.loads(text)) + len(text.split(","))
        total += len("".join(sorted(words)))
        if number % 4 == 0:
            kept.append(words)
    print(total, len(kept))


main(int(sys.argv[1]))
