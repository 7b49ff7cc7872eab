#include "textflag.h"

// func clone3(args *cloneArgs, size, code uintptr, m *machine) (pid uintptr)
TEXT ·clone3(SB), NOSPLIT, $0-40
	MOVD args+0(FP), R0
	MOVD size+8(FP), R1
	MOVD code+16(FP), R9 // the kernel keeps all registers but R0
	MOVD m+24(FP), R10
	MOVD $435, R8
	SVC
	CBZ  R0, child
	MOVD R0, pid+32(FP)
	RET

child: // on the new stack. Go's own convention from here on: the first argument in R0, a place for it on the stack, no frame above
	SUB  $64, RSP
	MOVD ZR, R29
	MOVD ZR, R30
	MOVD R10, R0
	CALL (R9)
	BRK
