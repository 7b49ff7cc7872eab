#include "textflag.h"

// func clone3(args *cloneArgs, size, code uintptr, m *machine) (pid uintptr)
TEXT ·clone3(SB), NOSPLIT, $0-40
	MOVQ args+0(FP), DI
	MOVQ size+8(FP), SI
	MOVQ code+16(FP), R12 // the kernel keeps all registers but AX, CX and R11
	MOVQ m+24(FP), R13
	MOVL $435, AX
	SYSCALL
	TESTQ AX, AX
	JEQ  child
	MOVQ AX, pid+32(FP)
	RET

child: // on the new stack. Go's own convention from here on: the first argument in AX, a place for it on the stack, X15 zero, no frame above
	SUBQ  $64, SP
	XORL  BP, BP
	XORPS X15, X15
	MOVQ  R13, AX
	CALL  R12
	INT   $3
