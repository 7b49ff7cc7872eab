# A day's work with git on a clone of this repository. Whatever is not as it should be ends it.
set -eu
same() { [ "$2" = "$3" ] || { echo "$1: got '$2', want '$3'"; exit 1; }; }
there() { for d; do [ -d "$d" ] || { echo "$d is not there"; ls . cmd; exit 1; }; done; }
gone() { for d; do [ ! -e "$d" ] || { echo "$d is still there"; exit 1; }; done; }
step() { echo "step: $*"; }
first=$(git rev-parse --abbrev-ref HEAD)

step status
same "status of the clone" "$(git status --porcelain)" ""

step add, commit
echo one >new.txt
git add new.txt
git commit -qm one
same "status after commit" "$(git status --porcelain)" ""

step branch, rebase
git checkout -qb side
echo two >>new.txt
git commit -qam two
git checkout -q "$first"
echo other >other.txt
git add .
git commit -qm other
git checkout -q side
git rebase -q "$first"
same "history after rebase" "$(git log --format=%s -n 3 | paste -sd' ')" "two other one"

step stash
echo stashed >>doc.go
echo untracked >untracked.txt
git stash -q -u
same "status after stash" "$(git status --porcelain)" ""
git stash pop -q
same "status after pop" "$(git status --porcelain | paste -sd' ')" " M doc.go ?? untracked.txt"
git checkout -q doc.go
rm untracked.txt

step worktree
git worktree add -q wt -b tree
same "worktrees" "$(git worktree list | wc -l)" 2
(cd wt && echo x >x && git add x && git commit -qm "in the worktree" && [ -z "$(git status --porcelain)" ])
same "commit of the worktree" "$(git log --format=%s -n 1 tree)" "in the worktree"
git worktree remove wt
same "worktrees left" "$(git worktree list | wc -l)" 1

step git mv of a directory
n=$(git ls-files internal/policy | wc -l)
git mv internal/policy internal/renamed
same "renames that git sees" "$(git status --porcelain | grep -c '^R ')" "$n"
git commit -qm renamed
same "status after git mv" "$(git status --porcelain)" ""

step 'rename(2) of directories, nested'
python3 -c '
import os
os.rename("internal/engine", "internal/motor")
os.rename("internal/motor/native", "native")
os.rename("native/inside", "inside")
fd = os.open("cmd", os.O_RDONLY)
os.rename("casemate", "commands", src_dir_fd=fd, dst_dir_fd=fd)
os.rename("cmd/commands", "commands")
os.mkdir("nest")
os.rename("internal", "nest/internal")
os.rename("nest/internal/motor", "nest/motor")
os.rename("nest", "deep")
os.rename(os.path.abspath("docs"), os.path.abspath("deep/docs"))
'
there deep/motor/enginetest inside native deep/internal/renamed commands
gone internal nest cmd/casemate
git add -A
git commit -qm "moved around"
same "status after all the moves" "$(git status --porcelain)" ""
git mv deep/internal internal
git mv deep/motor internal/engine
git mv deep/docs docs
git reset -q --hard side~1
same "status after reset" "$(git status --porcelain)" ""
there internal/engine/native/inside
rmdir deep

step bare and plain clone
# Without hard links: in an overlay that an ordinary user mounts a host's file gets another inode number when it is linked, and git calls that an attack.
git clone -q --no-hardlinks . clone
same "clone" "$(git -C clone rev-parse HEAD)" "$(git rev-parse HEAD)"
rm -rf clone

step gc, fsck
git gc -q
git fsck --no-dangling

step leftovers
same "temporary names" "$(find . -name '.casemate*' | head -3)" ""

find . -path ./.git -prune -o -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | sed 's/^/tree: /'
echo work-done
