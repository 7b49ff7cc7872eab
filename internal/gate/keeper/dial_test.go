package keeper

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOwnWithoutDescriptors: an address that cannot be asked about is not taken for another machine's. There may be a descriptor again when it is dialled.
func TestOwnWithoutDescriptors(t *testing.T) {
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	address := netip.MustParseAddr("127.0.0.1")
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	_, asked := leavesFrom(address)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	if asked == nil {
		t.Error("without a descriptor there is an answer")
	}
	if mine, err := leavesFrom(address); err != nil || !mine { // the control
		t.Error(mine, err)
	}
}
