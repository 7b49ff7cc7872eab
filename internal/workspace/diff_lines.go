package workspace

import (
	"slices"
	"sort"

	"github.com/aymanbagabas/go-udiff/lcs"
)

// diffLines compares two texts line by line: first the lines that occur once in both hold the two together (patience diff), then what lies
// between them is compared exactly. lcs gives up on exactness after 100 differences, so that no input takes long; the anchors keep that
// from ever meaning a whole file.
func diffLines(a, b []string) []lcs.Diff {
	var diffs []lcs.Diff
	diffBetween(a, b, 0, 0, 8, &diffs)
	return joinAdjacent(diffs)
}

// diffBetween appends the differences of a and b, which begin at the given lines of the whole.
func diffBetween(a, b []string, atA, atB, depth int, diffs *[]lcs.Diff) {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	a, b, atA, atB = a[n:], b[n:], atA+n, atB+n
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	if len(a) == 0 && len(b) == 0 {
		return
	}
	var anchors [][2]int
	if depth > 0 && len(a) > 0 && len(b) > 0 {
		anchors = uniqueInBoth(a, b)
	}
	if len(anchors) == 0 {
		exactBetween(a, b, atA, atB, diffs)
		return
	}
	i, j := 0, 0
	for _, k := range append(anchors, [2]int{len(a), len(b)}) {
		diffBetween(a[i:k[0]], b[j:k[1]], atA+i, atB+j, depth-1, diffs)
		i, j = k[0]+1, k[1]+1
	}
}

func exactBetween(a, b []string, atA, atB int, diffs *[]lcs.Diff) {
	if len(a) == 0 || len(b) == 0 {
		*diffs = append(*diffs, lcs.Diff{Start: atA, End: atA + len(a), ReplStart: atB, ReplEnd: atB + len(b)})
		return
	}
	for _, d := range lcs.DiffLines(a, b) {
		*diffs = append(*diffs, lcs.Diff{Start: d.Start + atA, End: d.End + atA, ReplStart: d.ReplStart + atB, ReplEnd: d.ReplEnd + atB})
	}
}

// uniqueInBoth finds the longest rising sequence of lines that occur exactly once on either side.
func uniqueInBoth(a, b []string) [][2]int {
	type place struct{ inA, inB, countA, countB int }
	lines := make(map[string]*place, len(a))
	for i, s := range a {
		if p := lines[s]; p != nil {
			p.countA++
		} else {
			lines[s] = &place{inA: i, countA: 1}
		}
	}
	for i, s := range b {
		if p := lines[s]; p != nil {
			p.inB, p.countB = i, p.countB+1
		}
	}
	var both [][2]int
	for i, s := range a {
		if p := lines[s]; p.inA == i && p.countA == 1 && p.countB == 1 {
			both = append(both, [2]int{i, p.inB})
		}
	}
	return longestRising(both)
}

// longestRising picks pairs, sorted by the first number, so that the second rises too (patience sorting).
func longestRising(pairs [][2]int) [][2]int {
	var piles []int // index of the pair on top of each pile
	back := make([]int, len(pairs))
	for i, p := range pairs {
		k := sort.Search(len(piles), func(k int) bool { return pairs[piles[k]][1] >= p[1] })
		back[i] = -1
		if k > 0 {
			back[i] = piles[k-1]
		}
		if k == len(piles) {
			piles = append(piles, i)
		} else {
			piles[k] = i
		}
	}
	if len(piles) == 0 {
		return nil
	}
	rising := make([][2]int, 0, len(piles))
	for i := piles[len(piles)-1]; i >= 0; i = back[i] {
		rising = append(rising, pairs[i])
	}
	slices.Reverse(rising)
	return rising
}

func joinAdjacent(diffs []lcs.Diff) []lcs.Diff {
	var joined []lcs.Diff
	for _, d := range diffs {
		if n := len(joined); n > 0 && joined[n-1].End == d.Start && joined[n-1].ReplEnd == d.ReplStart {
			joined[n-1].End, joined[n-1].ReplEnd = d.End, d.ReplEnd
			continue
		}
		joined = append(joined, d)
	}
	return joined
}
