// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The init of an exact guest: it makes the two network namespaces, carries out the list of steps in /list, prints
 * one JSON line about each process on the second serial port when it has ended, and resets the machine, which ends
 * an emulator that is not to reboot. What it does itself and what goes wrong is on the console.
 *
 * The list, as zclab.backends.exact.steps writes it (BYTES are LENGTH bytes, followed by a line end):
 *
 *   memlock KIB|unlimited
 *   start NAME sender|receiver|- LENGTH
 *   BYTES                                  a shell command line; {port} in it is replaced
 *   await NAME stdout|stderr MILLISECONDS LENGTH
 *   BYTES                                  the beginning of the line
 *   write NAME LENGTH
 *   BYTES                                  the line without its end
 *   end NAME MILLISECONDS
 */

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define NAME_LENGTH 80
#define MOST_PROCESSES 4096
/* By then the kernel has measured its time stamp counter for good, and the clock keeps its rate. */
#define QUIET_SECONDS 2
#define SECOND_NS INT64_C(1000000000)

enum { OUT, ERR, STREAMS };
enum { SENDER, RECEIVER, ENDS };

static const char *const stream_names[STREAMS] = { "stdout", "stderr" };
static const char *const end_names[ENDS] = { "sender", "receiver" };
static char *const environment[] = {
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "HOME=/root", NULL,
};

struct text {
	char *bytes;
	size_t length, room;
	size_t looked_at; /* up to the end of the line that was awaited last */
};

struct process {
	char name[NAME_LENGTH + 1];
	pid_t pid;
	int in;            /* its standard input, -1 when that is closed */
	int out[STREAMS];  /* what it prints, -1 after the end */
	struct text text[STREAMS];
	bool ended, killed, reported;
	int status;
};

static struct process *processes[MOST_PROCESSES];
static size_t count;
static int namespaces[ENDS][2]; /* network and mount namespace */
static int children = -1;       /* a signalfd for SIGCHLD */
static FILE *results;
static char port[24] = "0";

static int64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * SECOND_NS + now.tv_nsec;
}

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
	int64_t now = clock_ns();
	va_list values;

	printf("init: %lld.%09lld ", (long long)(now / SECOND_NS), (long long)(now % SECOND_NS));
	va_start(values, format);
	vprintf(format, values);
	va_end(values);
	putchar('\n');
	fflush(stdout);
	tcdrain(STDOUT_FILENO);
}

static _Noreturn void leave(void)
{
	reboot(RB_AUTOBOOT);
	for (;;)
		pause();
}

/* The results then lack their last line, by which the controller knows. */
__attribute__((format(printf, 1, 2))) static _Noreturn void die(const char *format, ...)
{
	int error = errno;
	va_list values;

	printf("init: error: ");
	va_start(values, format);
	vprintf(format, values);
	va_end(values);
	printf(" (%s)\n", strerror(error));
	fflush(stdout);
	tcdrain(STDOUT_FILENO);
	leave();
}

static void *taken(void *memory)
{
	if (memory == NULL)
		die("out of memory");
	return memory;
}

static void mount_at(const char *type, const char *directory, const char *options)
{
	mkdir(directory, 0755);
	if (mount(type, directory, type, 0, options) < 0)
		die("mount %s on %s", type, directory);
}

static void link_to(const char *target, const char *path)
{
	if (symlink(target, path) < 0 && errno != EEXIST)
		die("%s", path);
}

static void set_up_files(void)
{
	mount_at("proc", "/proc", NULL);
	mount_at("sysfs", "/sys", NULL);
	mount_at("devtmpfs", "/dev", NULL);
	mount_at("tmpfs", "/dev/shm", "mode=1777");
	mount_at("tmpfs", "/tmp", "mode=1777");
	mount_at("tmpfs", "/run", "mode=755");
	link_to("/proc/self/fd", "/dev/fd");
	link_to("/proc/self/fd/0", "/dev/stdin");
	link_to("/proc/self/fd/1", "/dev/stdout");
	link_to("/proc/self/fd/2", "/dev/stderr");
}

static int opened(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);

	if (fd < 0)
		die("%s", path);
	return fd;
}

/* A raw line: what is printed goes out as it is. */
static FILE *serial_port(const char *path)
{
	struct termios settings;
	int fd = opened(path, O_RDWR | O_NOCTTY);

	if (tcgetattr(fd, &settings) < 0)
		die("%s", path);
	cfmakeraw(&settings);
	cfsetspeed(&settings, B115200);
	settings.c_cflag |= CLOCAL;
	if (tcsetattr(fd, TCSANOW, &settings) < 0)
		die("%s", path);
	return taken(fdopen(fd, "w"));
}

/*
 * Make a network namespace for each end, with a name for ip(8); and a mount namespace, since a sysfs shows the
 * interfaces of the network namespace in which it was mounted.
 */
static void set_up_namespaces(void)
{
	int own_net = opened("/proc/self/ns/net", O_RDONLY);
	int own_mounts = opened("/proc/self/ns/mnt", O_RDONLY);
	char path[64];

	mkdir("/run/netns", 0755);
	for (int end = 0; end < ENDS; end++) {
		if (unshare(CLONE_NEWNET) < 0)
			die("network namespace");
		snprintf(path, sizeof(path), "/run/netns/%s", end_names[end]);
		close(opened(path, O_RDONLY | O_CREAT));
		if (mount("/proc/self/ns/net", path, NULL, MS_BIND, NULL) < 0)
			die("%s", path);
		if (unshare(CLONE_NEWNS) < 0)
			die("mount namespace");
		if (umount2("/sys", MNT_DETACH) < 0)
			die("umount /sys");
		mount_at("sysfs", "/sys", NULL);
		namespaces[end][0] = opened("/proc/self/ns/net", O_RDONLY);
		namespaces[end][1] = opened("/proc/self/ns/mnt", O_RDONLY);
		if (setns(own_mounts, CLONE_NEWNS) < 0 || setns(own_net, CLONE_NEWNET) < 0)
			die("back to the first namespaces");
	}
	close(own_net);
	close(own_mounts);
}

/* Processes */

static void append(struct text *text, const char *bytes, size_t length)
{
	if (text->length + length > text->room) {
		text->room = 2 * (text->length + length) + 4096;
		text->bytes = taken(realloc(text->bytes, text->room));
	}
	memcpy(text->bytes + text->length, bytes, length);
	text->length += length;
}

/* Take all that a process has printed by now. */
static void take_output(struct process *process, int stream)
{
	char bytes[65536];

	while (process->out[stream] >= 0) {
		ssize_t got = read(process->out[stream], bytes, sizeof(bytes));

		if (got > 0) {
			append(&process->text[stream], bytes, (size_t)got);
		} else if (got < 0 && errno == EINTR) {
			continue;
		} else if (got < 0 && errno == EAGAIN) {
			return;
		} else {
			close(process->out[stream]);
			process->out[stream] = -1;
		}
	}
}

static void take_ended(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (size_t at = 0; at < count; at++) {
			if (processes[at]->pid == pid && !processes[at]->ended) {
				processes[at]->ended = true;
				processes[at]->status = status;
				for (int stream = 0; stream < STREAMS; stream++)
					take_output(processes[at], stream);
			}
		}
	}
}

/* Wait until something happens to a process, at most until the deadline; return whether that has passed. */
static bool wait_for_events(int64_t deadline)
{
	struct pollfd *events = taken(calloc(STREAMS * count + 1, sizeof(*events)));
	nfds_t number = 0;
	int64_t left = deadline - clock_ns();
	struct timespec wait = { left / SECOND_NS, left % SECOND_NS };
	struct signalfd_siginfo child;

	if (left <= 0) {
		free(events);
		return true;
	}
	events[number++] = (struct pollfd){ .fd = children, .events = POLLIN };
	for (size_t at = 0; at < count; at++)
		for (int stream = 0; stream < STREAMS; stream++)
			if (processes[at]->out[stream] >= 0)
				events[number++] = (struct pollfd){ .fd = processes[at]->out[stream], .events = POLLIN };
	if (ppoll(events, number, &wait, NULL) < 0 && errno != EINTR)
		die("poll");
	free(events);
	for (size_t at = 0; at < count; at++)
		for (int stream = 0; stream < STREAMS; stream++)
			take_output(processes[at], stream);
	while (read(children, &child, sizeof(child)) > 0)
		;
	take_ended();
	return false;
}

static struct process *named(const char *name)
{
	for (size_t at = 0; at < count; at++)
		if (strcmp(processes[at]->name, name) == 0)
			return processes[at];
	errno = ESRCH;
	die("the list names %s, which was not started", name);
}

static void close_input(struct process *process)
{
	if (process->in >= 0)
		close(process->in);
	process->in = -1;
}

static void kill_process(struct process *process)
{
	if (process->ended)
		return;
	process->killed = true;
	kill(-process->pid, SIGKILL);
	while (!process->ended)
		wait_for_events(clock_ns() + SECOND_NS);
}

static void print_text(const struct text *text)
{
	putc('"', results);
	for (size_t at = 0; at < text->length; at++) {
		unsigned char byte = (unsigned char)text->bytes[at];

		if (byte == '"' || byte == '\\')
			fprintf(results, "\\%c", byte);
		else if (byte == '\n')
			fputs("\\n", results);
		else if (byte == '\t')
			fputs("\\t", results);
		else if (byte < 0x20 || byte == 0x7f)
			fprintf(results, "\\u%04x", byte);
		else
			putc(byte, results);
	}
	putc('"', results);
}

static void report(struct process *process)
{
	if (process->reported)
		return;
	process->reported = true;
	close_input(process);
	fprintf(results, "{\"name\":\"%s\",\"status\":", process->name);
	if (process->killed)
		fputs("null", results);
	else if (WIFSIGNALED(process->status))
		fprintf(results, "%d", 128 + WTERMSIG(process->status));
	else
		fprintf(results, "%d", WEXITSTATUS(process->status));
	for (int stream = 0; stream < STREAMS; stream++) {
		fprintf(results, ",\"%s\":", stream_names[stream]);
		print_text(&process->text[stream]);
		free(process->text[stream].bytes);
		process->text[stream] = (struct text){ 0 };
		if (process->out[stream] >= 0)
			close(process->out[stream]);
		process->out[stream] = -1;
	}
	fputs("}\n", results);
	/* The line is out before anything else runs: no step is disturbed by the one before. */
	if (fflush(results) != 0 || tcdrain(fileno(results)) < 0)
		die("the results cannot be printed");
}

/* Return the command with the port in the place of each {port}. */
static char *with_port(const char *command)
{
	static const char mark[] = "{port}";
	struct text text = { 0 };
	const char *found;

	while ((found = strstr(command, mark)) != NULL) {
		append(&text, command, (size_t)(found - command));
		append(&text, port, strlen(port));
		command = found + strlen(mark);
	}
	append(&text, command, strlen(command) + 1);
	return text.bytes;
}

static _Noreturn void become(const char *command, int end, int pipes[][2])
{
	sigset_t none;

	setsid();
	for (int fd = 0; fd < 3; fd++)
		if (dup2(pipes[fd][fd == STDIN_FILENO ? 0 : 1], fd) < 0)
			_exit(126);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	if (end >= 0 && (setns(namespaces[end][0], CLONE_NEWNET) < 0 || setns(namespaces[end][1], CLONE_NEWNS) < 0)) {
		perror("setns");
		_exit(126);
	}
	execle("/bin/sh", "sh", "-c", command, (char *)NULL, environment);
	perror("/bin/sh");
	_exit(127);
}

static void start(const char *name, int end, const char *command)
{
	struct process *process;
	int pipes[3][2];
	char *whole;

	if (count == MOST_PROCESSES) {
		errno = E2BIG;
		die("the list starts more than %d processes", MOST_PROCESSES);
	}
	process = taken(calloc(1, sizeof(*process)));
	snprintf(process->name, sizeof(process->name), "%s", name);
	for (int fd = 0; fd < 3; fd++)
		if (pipe2(pipes[fd], O_CLOEXEC) < 0)
			die("pipe");
	whole = with_port(command);
	process->pid = fork();
	if (process->pid < 0)
		die("fork");
	if (process->pid == 0)
		become(whole, end, pipes);
	free(whole);
	setpgid(process->pid, process->pid); /* a kill that comes at once finds the group */
	close(pipes[0][0]);
	process->in = pipes[0][1];
	for (int stream = 0; stream < STREAMS; stream++) {
		close(pipes[stream + 1][1]);
		process->out[stream] = pipes[stream + 1][0];
		fcntl(process->out[stream], F_SETFL, O_NONBLOCK);
	}
	processes[count++] = process;
}

/* Look for a whole line that begins so, after the last one that was found; keep the number at its end. */
static bool find_line(struct text *text, const char *prefix)
{
	size_t at = text->looked_at;
	char *end;

	while (at < text->length && (end = memchr(text->bytes + at, '\n', text->length - at)) != NULL) {
		char *line = text->bytes + at;
		size_t length = (size_t)(end - line), first = length;

		at += length + 1;
		if (length < strlen(prefix) || memcmp(line, prefix, strlen(prefix)) != 0)
			continue;
		text->looked_at = at;
		while (first > 0 && isdigit((unsigned char)line[first - 1]))
			first--;
		snprintf(port, sizeof(port), "%.*s", (int)(length - first), line + first);
		if (port[0] == '\0')
			strcpy(port, "0");
		return true;
	}
	return false;
}

static void await(struct process *process, int stream, const char *prefix, int64_t milliseconds)
{
	int64_t deadline = clock_ns() + milliseconds * 1000000;

	while (!find_line(&process->text[stream], prefix)) {
		if (process->ended) {
			say("%s ended before it printed \"%s\"", process->name, prefix);
			strcpy(port, "0");
			return;
		}
		if (wait_for_events(deadline)) {
			say("%s did not print \"%s\" in time: killed", process->name, prefix);
			kill_process(process);
			strcpy(port, "0");
			return;
		}
	}
}

static void write_line(struct process *process, const char *line)
{
	/* A line is shorter than a pipe; a process that does not read any more is told so by its end. */
	if (process->in >= 0)
		dprintf(process->in, "%s\n", line);
}

static void end(struct process *process, int64_t milliseconds)
{
	int64_t deadline = clock_ns() + milliseconds * 1000000;

	/* Its standard input stays open: the traffic tool takes its end for the end of whoever started it. */
	while (!process->ended) {
		if (wait_for_events(deadline)) {
			say("%s did not end in time: killed", process->name);
			kill_process(process);
		}
	}
	report(process);
}

/* The list */

static char *read_file(const char *path)
{
	struct text text = { 0 };
	char bytes[65536];
	int fd = opened(path, O_RDONLY);
	ssize_t got;

	while ((got = read(fd, bytes, sizeof(bytes))) > 0)
		append(&text, bytes, (size_t)got);
	if (got < 0)
		die("%s", path);
	append(&text, "", 1);
	close(fd);
	return text.bytes;
}

static _Noreturn void bad_list(const char *line)
{
	errno = EINVAL;
	die("/list: not a step: %.80s", line);
}

/* Take so many bytes and the line end after them off the list. */
static char *take_bytes(char **list, size_t length)
{
	char *bytes = *list;

	if (strlen(bytes) <= length || bytes[length] != '\n')
		bad_list(bytes);
	bytes[length] = '\0';
	*list = bytes + length + 1;
	return bytes;
}

static char *take_line(char **list)
{
	char *end_of_line = strchr(*list, '\n');

	if (end_of_line == NULL)
		bad_list(*list);
	return take_bytes(list, (size_t)(end_of_line - *list));
}

static int number_of(const char *const names[], int how_many, const char *name, const char *line)
{
	for (int number = 0; number < how_many; number++)
		if (strcmp(names[number], name) == 0)
			return number;
	bad_list(line);
}

static void limit_locked_memory(const char *kib, const char *line)
{
	rlim_t bytes = RLIM_INFINITY;
	unsigned long long number;

	if (strcmp(kib, "unlimited") != 0) {
		if (sscanf(kib, "%llu", &number) != 1)
			bad_list(line);
		bytes = number * 1024;
	}
	if (setrlimit(RLIMIT_MEMLOCK, &(struct rlimit){ bytes, bytes }) < 0)
		die("limit of locked memory");
}

static void carry_out(char *list)
{
	while (*list != '\0') {
		char name[NAME_LENGTH + 1], word[16];
		const char *line = take_line(&list);
		long long milliseconds;
		size_t length;

		if (sscanf(line, "memlock %15s", word) == 1) {
			limit_locked_memory(word, line);
		} else if (sscanf(line, "start %80s %15s %zu", name, word, &length) == 3) {
			int end_number = strcmp(word, "-") == 0 ? -1 : number_of(end_names, ENDS, word, line);

			say("start %s", name);
			start(name, end_number, take_bytes(&list, length));
		} else if (sscanf(line, "await %80s %15s %lld %zu", name, word, &milliseconds, &length) == 4) {
			int stream = number_of(stream_names, STREAMS, word, line);

			await(named(name), stream, take_bytes(&list, length), milliseconds);
		} else if (sscanf(line, "write %80s %zu", name, &length) == 2) {
			write_line(named(name), take_bytes(&list, length));
		} else if (sscanf(line, "end %80s %lld", name, &milliseconds) == 2) {
			end(named(name), milliseconds);
			say("end %s", name);
		} else {
			bad_list(line);
		}
	}
}

int main(void)
{
	sigset_t child;
	int64_t quiet = QUIET_SECONDS * SECOND_NS;

	setvbuf(stdout, NULL, _IOFBF, BUFSIZ);
	set_up_files();
	results = serial_port("/dev/ttyS1");
	set_up_namespaces();
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	children = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
	if (children < 0)
		die("signalfd");
	while (clock_ns() < quiet)
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &(struct timespec){ QUIET_SECONDS, 0 }, NULL);
	say("the list begins");
	carry_out(read_file("/list"));
	for (size_t at = 0; at < count; at++) {
		kill_process(processes[at]);
		report(processes[at]);
	}
	fprintf(results, "{\"end\":%zu}\n", count);
	fflush(results);
	tcdrain(fileno(results));
	say("the list is done");
	leave();
}
