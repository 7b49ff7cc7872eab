//go:build linux && !amd64 && !arm64

package confine

const audit = 0 // no reviewed list of calls: filter refuses

func machineCalls() []int { return nil }
