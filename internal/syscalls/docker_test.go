package syscalls

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// allowedBeyondDocker are the calls that we allow and Docker's default profile does not, each with the reason.
var allowedBeyondDocker = map[string]string{
	"uprobe": "like uretprobe, which Docker allows: the kernel calls it, and does not ask filters",
}

// TestDeniesWhatDockerDenies takes Docker's default profile, without capabilities and for the newest kernel, as an oracle: whatever it does not
// allow, for whatever arguments, our weakest filter denies too.
func TestDeniesWhatDockerDenies(t *testing.T) {
	profile := seccomp.DefaultProfile()
	if profile.DefaultAction != specs.ActErrno {
		t.Fatalf("the profile's default action is %q: it is no allow list any more", profile.DefaultAction)
	}
	needed := map[string]bool{}
	denied := 0
	for arch, m := range machines {
		filter := compile(m, Options{RenameHook: true})
		for _, c := range m.calls {
			for _, args := range tries(withDockersEdges(edges(c.name), profile, c.name)) {
				if dockerAllows(profile, arch, c.name, args) {
					continue
				}
				denied++
				got, err := run(filter, data{c.number, m.audit, args})
				if err != nil {
					t.Fatal(err)
				}
				if got.answer != Allow && got.answer != Notify {
					continue
				}
				needed[c.name] = true
				if allowedBeyondDocker[c.name] == "" {
					t.Errorf("%s: %s %x is denied by Docker and allowed here", arch, c.name, args)
					break
				}
			}
		}
	}
	if denied < 500 {
		t.Errorf("Docker denied only %d of the calls tried: this test has lost its oracle", denied)
	}
	for name := range maps.Keys(allowedBeyondDocker) {
		if !needed[name] {
			t.Errorf("the exception for %s is not needed any more", name)
		}
	}
}

func withDockersEdges(values [6][]uint64, profile *seccomp.Seccomp, call string) [6][]uint64 {
	for _, rule := range profile.Syscalls {
		if !slices.Contains(rule.Names, call) {
			continue
		}
		for _, a := range rule.Args {
			values[a.Index] = append(values[a.Index], a.Value, a.Value-1, a.Value+1, 0)
		}
	}
	for i := range values {
		slices.Sort(values[i])
		values[i] = slices.Compact(values[i])
	}
	return values
}

// dockerAllows evaluates the profile as the container engine does on Linux 6.18 for a container without capabilities.
func dockerAllows(profile *seccomp.Seccomp, arch, call string, args [6]uint64) bool {
	for _, rule := range profile.Syscalls {
		if rule.Action == specs.ActAllow && slices.Contains(rule.Names, call) && applies(rule, arch) && argsMatch(rule.Args, args) {
			return true
		}
	}
	return false
}

func applies(rule *seccomp.Syscall, arch string) bool {
	if in := rule.Includes; in != nil {
		newer := in.MinKernel != nil && (in.MinKernel.Kernel > 6 || in.MinKernel.Kernel == 6 && in.MinKernel.Major > 18)
		if len(in.Caps) > 0 || newer || len(in.Arches) > 0 && !slices.Contains(in.Arches, arch) {
			return false
		}
	}
	return rule.Excludes == nil || !slices.Contains(rule.Excludes.Arches, arch)
}

func argsMatch(conditions []specs.LinuxSeccompArg, args [6]uint64) bool {
	for _, c := range conditions {
		v := args[c.Index] & 0xffffffff // as the kernel takes them; compared by 64 bits, Docker's own denials of families can be evaded
		var holds bool
		switch c.Op {
		case specs.OpEqualTo:
			holds = v == c.Value
		case specs.OpLessThan:
			holds = v < c.Value
		case specs.OpGreaterThan:
			holds = v > c.Value
		case specs.OpMaskedEqual:
			holds = v&c.Value == c.ValueTwo
		default:
			panic(fmt.Sprintf("the profile compares by %q, which this test does not know", c.Op))
		}
		if !holds {
			return false
		}
	}
	return true
}
