# A C program of several files, built by make with two jobs, twice.
set -eu
mkdir -p c && cd c
for i in 1 2 3 4; do echo "int f$i(void) { return $i; }" >f$i.c; done
cat >main.c <<'C'
#include <stdio.h>
int f1(void), f2(void), f3(void), f4(void);
int main(void) { printf("sum %d\n", f1() + f2() + f3() + f4()); return 0; }
C
printf 'CC = cc\nCFLAGS = -O2 -g -Wall -Werror\nprog: main.o f1.o f2.o f3.o f4.o\n\t$(CC) -o $@ $^\ntest: prog\n\t./prog\nclean:\n\trm -f prog *.o\n.PHONY: test clean\n' >Makefile
make -j2 test | grep -q 'sum 10'
make -j2 prog | grep -q 'up to date'
touch f3.c
make -j2 prog | grep -c -- '-c' | grep -qx 1
ar rcs libf.a f1.o f2.o && cc -o other main.c f3.o f4.o libf.a && ./other | grep -q 'sum 10'
cc -shared -fPIC -o libg.so f1.c && [ -s libg.so ]
make clean && [ ! -e prog ]
echo work-done
