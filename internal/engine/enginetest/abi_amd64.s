#include "textflag.h"

// func callCode(code, di, si, dx, r8 uintptr) uint32
TEXT ·callCode(SB), NOSPLIT, $64-44
	MOVQ code+0(FP), AX
	MOVQ di+8(FP), DI
	MOVQ si+16(FP), SI
	MOVQ dx+24(FP), DX
	MOVQ r8+32(FP), R8
	CALL AX
	MOVL AX, ret+40(FP)
	RET
