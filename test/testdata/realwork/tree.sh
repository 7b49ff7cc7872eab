# A project of a hundred thousand files.
set -eu
same() { [ "$2" = "$3" ] || { echo "$1: got '$2', want '$3'"; exit 1; }; }
took() { now=$(date +%s%N); echo "took: $(((now - was) / 1000000)) ms for $*"; was=$now; }
was=$(date +%s%N)

same "status" "$(git status --porcelain | grep tree)" ""
took git status
same "status again" "$(git status --porcelain | grep tree)" ""
took git status again
same "files" "$(find tree -type f | wc -l)" 100000
took find
same "needle" "$(grep -rl needle-in-the-haystack tree)" tree/d500/f50
took grep
rm -rf tree/d0*
same "files left" "$(find tree -type f | wc -l)" 90000
took rm -rf of 10000 files
python3 -c 'import os; os.rename("tree/d100", "tree/renamed"); os.rename("tree/renamed", "beside")'
same "moved files" "$(ls beside | wc -l)" 100
took 'rename(2) of a directory of 100 files'
mkdir part
mv tree/d9* part/
took mv of 100 directories of 100 files
python3 -c 'import os; os.rename("part", "whole")'
took 'rename(2) of what was moved'
mv tree trunk
took mv of the tree with 79900 files
same "files of the tree" "$(find trunk -type f | wc -l)" 79900
same "all files" "$(find beside trunk whole -type f | wc -l)" 90000
[ ! -e tree ]
same "deletions that git sees" "$(git status --porcelain -uno tree | wc -l)" 100000
took git status
echo work-done
