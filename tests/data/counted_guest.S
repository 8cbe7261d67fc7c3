/* SPDX-License-Identifier: Apache-2.0 */
/* A guest without an operating system, for the plugin that counts instructions: a BIOS of 64 KiB.
 *
 * Between the marks it does what makes counting hard: REP, faults in the middle and at the end of a translation
 * block, accesses to devices, code that changes itself, interrupts of a timer, two stacks. It writes the
 * difference of the two clock readings in front of the marks (8 bytes, little-endian) to port 0xe9. With
 * -icount shift=0 that is the number of instructions from the first mark to the last. */

.set MARK_RECEIVER_OPENS, 0x7a6c6201
.set MARK_RECEIVER_CLOSES, 0x7a6c6202
.set MARK_SENDER_OPENS, 0x7a6c6203
.set MARK_SENDER_CLOSES, 0x7a6c6204

.set IMAGE, 0x10000 /* where it is linked, and copied to */
.set BIOS, 0xf0000
.set PML4, 0x1000
.set PDPT, 0x2000
.set DIRECTORY, 0x3000
.set TABLE, 0x4000
.set TOP_DIRECTORY, 0x5000
.set IDT, 0x6000
.set TASK, 0x7000
.set FAULT_STACK, 0x88000 /* the current one may not be there */
.set STACK, 0x80000
.set OTHER_STACK, 0x8a000
.set ABSENT, 0x90000      /* 16 pages from here on are not present at first */
.set ABSENT_STACK, 0x93000
.set ABSENT_CODE, 0x95000
.set DEVICE, 0xa8000      /* nothing answers there, but it is no memory */
.set APIC, 0xfee00000

.macro clock to
	rdtsc
	shl $32, %rdx
	or %rdx, %rax
	mov %rax, \to
.endm

.macro mark which
	nopl \which(%rax,%rax,1)
.endm

.text
.code64
.globl long_mode, many, moved, filled, mid_fault, device_read, call_fault, ret_fault, far_code, changed
.globl page_fault, timer, switch_to, switch_end, softirq, softirq_caller, sender_part, receiver_part
long_mode:
	mov $STACK, %rsp
	mov $32, %eax
	ltr %ax
	/* A timer that interrupts every 5000 ns: its vector, its count in bus clocks of 1 ns. */
	mov $APIC, %ebx
	movl $0x1ff, 0xf0(%rbx)
	movl $0xb, 0x3e0(%rbx)
	movl $0x20030, 0x320(%rbx)
	movl $5000, 0x380(%rbx)
	sti
	call warm_up
	call switch_to
	clock %r12
	mark MARK_RECEIVER_OPENS
	call body
	clock %r13
	mark MARK_RECEIVER_CLOSES
	cli
	sub %r12, %r13
	mov $8, %ecx
1:	mov %r13b, %al
	out %al, $0xe9
	shr $8, %r13
	loop 1b
	mov $1, %al
	out %al, $0xf4
	hlt

warm_up: /* what is translated before the first mark counts all the same */
	mov $1000, %ecx
1:	loop 1b
	ret

body:
	mov $3000, %ecx
many:	add $1, %rax
	dec %ecx
	jnz many

	mov $0x70000, %esi
	mov $0x71000, %edi
	mov $100, %ecx
moved:	rep movsb

	mov $ABSENT + 4000, %edi /* from a page that is not there into the next one, not there either */
	mov $200, %ecx
filled:	rep stosb

	mov $ABSENT + 0x2000, %edi
	nop
mid_fault:
	movq $1, (%rdi)
	nop
	nop

	nop
device_read:
	mov DEVICE, %eax
	nop
	movl $1, DEVICE
	nop

	mov %rsp, %rbp
	mov $ABSENT_STACK + 0x1000, %esp
call_fault:
	call nothing
	mov %rbp, %rsp

	/* A return address that lies on a page which is not there any more. */
	mov $ABSENT + 0x2ff8, %edi
	movq $after_return, (%rdi)
	andq $~1, TABLE + (ABSENT + 0x2000) / 4096 * 8
	invlpg (%rdi)
	mov %rdi, %rsp
ret_fault:
	ret
after_return:
	mov %rbp, %rsp

	mov $ABSENT_CODE, %eax
far_call:
	call *%rax
	andq $~1, TABLE + ABSENT_CODE / 4096 * 8
	invlpg ABSENT_CODE
	lea far_pointer(%rip), %rbx
	call *(%rbx)
	andq $~1, TABLE + ABSENT_CODE / 4096 * 8
	invlpg ABSENT_CODE
	lea 1f(%rip), %rcx
	push %rcx
	jmp *far_pointer(%rip)
1:
	/* Code of the block that is being executed, and executed again. */
	mov $3, %ecx
again:	incb changed + 3(%rip)
changed:
	lea 1(%rbx), %rbx
	dec %ecx
	jnz again

	/* An instruction that cannot be reached in one piece: the second half is on another page. */
	jmp across

after_across:
	call softirq_caller

	/* Another thread: its stack is another. It opens the sender's window, and the first one goes on in it. */
	push %rbp
	mov %rsp, saved_stack(%rip)
	mov $OTHER_STACK, %esp
	sub $8, %rsp
	call switch_to
	mark MARK_SENDER_OPENS
	mov $500, %ecx
sender_part:
	loop sender_part
	mov %rsp, %rbp
	mov saved_stack(%rip), %rsp
	call switch_to
	mov $300, %ecx
receiver_part:
	loop receiver_part
	mov %rbp, %rsp
	call switch_to
	mark MARK_SENDER_CLOSES
	mov saved_stack(%rip), %rsp
	call switch_to
	pop %rbp

	mov $20000, %ecx /* long enough for the timer */
1:	loop 1b
	ret

nothing:
	ret

softirq_caller:
	call softirq
	ret
softirq:
	mov $700, %ecx
1:	loop 1b
	ret

/* What it pops says whose stack it is. */
switch_to:
	push %r15
	push %rbx
	pop %rbx
	pop %r15
switch_end:
	ret

page_fault:
	push %rax
	push %rbx
	mov %cr2, %rax
	shr $12, %rax
	lea TABLE(,%rax,8), %rbx
	orq $1, (%rbx)
	pop %rbx
	pop %rax
	add $8, %rsp
	iretq

timer:
	push %rax
	incl ticks(%rip)
	mov $APIC, %eax
	movl $0, 0xb0(%rax)
	pop %rax
	iretq

.p2align 12
	.fill 4091, 1, 0x90
across: /* the first page ends within its second instruction */
	nop
	movl $5, %ds:0x70000
	jmp after_across

.p2align 4
far_pointer:
	.quad ABSENT_CODE
saved_stack:
	.quad 0
ticks:
	.long 0

/* ------------------------------------------------------------------------------------- before the test */
.code32
protected_mode:
	mov $16, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov $STACK, %esp
	cld
	mov $BIOS, %esi
	mov $IMAGE, %edi
	mov $0x4000, %ecx
	rep movsl
	ljmp $8, $in_memory
in_memory:
	mov $PML4, %edi
	xor %eax, %eax
	mov $0x1c00, %ecx
	rep stosl
	movl $PDPT + 3, PML4
	movl $DIRECTORY + 3, PDPT
	movl $TOP_DIRECTORY + 3, PDPT + 24
	movl $TABLE + 3, DIRECTORY
	movl $APIC + 0x9b, TOP_DIRECTORY + 0x1f7 * 8 /* 2 MiB, not cached */
	movl $3, %eax
	mov $TABLE, %edi
	mov $512, %ecx
1:	mov %eax, (%edi)
	add $8, %edi
	add $4096, %eax
	loop 1b
	movb $0xc3, ABSENT_CODE /* ret */
	mov $TABLE + ABSENT / 4096 * 8, %edi
	mov $16, %ecx
1:	andb $~1, (%edi)
	add $8, %edi
	loop 1b
	movl $page_fault, %eax
	mov $IDT + 14 * 16, %edi
	call gate
	movl $timer, %eax
	mov $IDT + 0x30 * 16, %edi
	call gate
	movl $FAULT_STACK, TASK + 36
	lidt idt_pointer
	lgdt own_gdt_pointer
	mov $0x20, %eax
	mov %eax, %cr4
	mov $PML4, %eax
	mov %eax, %cr3
	mov $0xc0000080, %ecx
	rdmsr
	or $0x100, %eax
	wrmsr
	mov $0x80000001, %eax
	mov %eax, %cr0
	ljmp $24, $long_mode
gate:
	mov %ax, (%edi)
	movw $24, 2(%edi)
	movw $0x8e01, 4(%edi)
	shr $16, %eax
	mov %ax, 6(%edi)
	ret

.p2align 4
gdt:
	.quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00af9b000000ffff, 0x0000890070000067, 0
gdt_pointer:
	.word 47
	.long gdt - IMAGE + BIOS
own_gdt_pointer:
	.word 47
	.long gdt
idt_pointer:
	.word 0xfff
	.long IDT

.code16
real_mode:
	cli
	lgdtl %cs:gdt_pointer - IMAGE
	mov %cr0, %eax
	or $1, %eax
	mov %eax, %cr0
	ljmpl $8, $protected_mode - IMAGE + BIOS

.org 0xfff0
	jmp real_mode
.org 0x10000
