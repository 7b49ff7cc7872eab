#!/usr/bin/env bash
# packages.sh TESTS DIR...: runs the compiled tests that lie in TESTS, each in its package's directory, and says what each took, in seconds.
set -uo pipefail
tests=$1
shift
status=0
for dir; do
	name=$(basename "$(cd "$dir" && pwd)")
	[ "$dir" = . ] && name=casemate.dev
	start=$SECONDS
	result=ok
	(cd "$dir" && "$tests/$name.test" -test.paniconexit0 -test.timeout 30m) || result=FAIL
	[ $result = ok ] || status=1
	printf '%-4s %s %s %ss\n' $result "$(id -un)" "$dir" $((SECONDS - start))
done
exit $status
