#include "textflag.h"

// caught writes its signal's number to signalFD: write(signalFD, &number, 1). It runs on a signal stack, in any thread, in
// the middle of anything, so it touches nothing else. The kernel restores every register afterwards.
TEXT ·caught(SB), NOSPLIT|NOFRAME|TOPFRAME, $0-0
	SUBQ $24, SP
	MOVB DI, 8(SP)
	MOVL ·signalFD(SB), DI
	LEAQ 8(SP), SI
	MOVL $1, DX
	MOVL $1, AX // SYS_write
	SYSCALL
	ADDQ $24, SP
	RET

// restorer is rt_sigreturn: amd64 has no other way back from a handler.
TEXT ·restorer(SB), NOSPLIT|NOFRAME|TOPFRAME, $0-0
	MOVL $15, AX // SYS_rt_sigreturn
	SYSCALL
	INT $3

TEXT ·caughtPC(SB), NOSPLIT, $0-8
	LEAQ ·caught(SB), AX
	MOVQ AX, ret+0(FP)
	RET

TEXT ·restorerPC(SB), NOSPLIT, $0-8
	LEAQ ·restorer(SB), AX
	MOVQ AX, ret+0(FP)
	RET
