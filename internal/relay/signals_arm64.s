#include "textflag.h"

// See signals_amd64.s.
TEXT ·caught(SB), NOSPLIT|NOFRAME|TOPFRAME, $0-0
	SUB $16, RSP
	MOVB R0, (RSP)
	MOVW ·signalFD(SB), R0
	MOVD RSP, R1
	MOVD $1, R2
	MOVD $64, R8 // SYS_write
	SVC
	ADD $16, RSP
	RET

TEXT ·restorer(SB), NOSPLIT|NOFRAME|TOPFRAME, $0-0
	MOVD $139, R8 // SYS_rt_sigreturn
	SVC
	BRK

TEXT ·caughtPC(SB), NOSPLIT, $0-8
	MOVD $·caught(SB), R0
	MOVD R0, ret+0(FP)
	RET

TEXT ·restorerPC(SB), NOSPLIT, $0-8
	MOVD $·restorer(SB), R0
	MOVD R0, ret+0(FP)
	RET
