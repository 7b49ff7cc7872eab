#include "textflag.h"

// func fork(stack uintptr, m *machine, next uintptr) (pid uintptr)
//
// resume is called by its address: the linker would take fork, resume and run for an endless recursion on one stack.
TEXT ·fork(SB), NOSPLIT|NOFRAME, $0-32
	MOVQ stack+0(FP), SI
	MOVQ m+8(FP), R12
	MOVQ next+16(FP), R13
	MOVQ $0x4111, DI // CLONE_VM|CLONE_VFORK|SIGCHLD
	XORL DX, DX
	XORL R10, R10
	XORL R8, R8
	MOVL $56, AX // SYS_clone
	SYSCALL
	TESTQ AX, AX
	JZ command
	MOVQ AX, pid+24(FP)
	RET
command:
	ANDQ $~15, SP
	SUBQ $32, SP
	MOVQ R12, 0(SP)
	MOVQ R13, 8(SP)
	LEAQ ·resume(SB), AX
	CALL AX
	INT $3
