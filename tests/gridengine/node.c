/* Makes processes of one machine believe that they are on the execution host GE_NODE_NAME, whose address is
 * GE_NODE_ADDRESS, one of 127.0.0.0/8. To be preloaded; what is linked statically sees the machine as it is.
 * A job's process is on the node by whose groups Grid Engine knows it, whatever its environment says: launchers
 * of ranks take that along from node to node. GE_NODE_GROUPS is the first group of the first node, ge1.
 *
 * Grid Engine knows hosts by name and lets all of a cluster's daemons listen on one port, and it refuses a
 * peer whose address resolves to another name than it says. So a node needs its name, its address when it
 * listens, and its address when it connects. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <grp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

/* As lib.bash has it. */
enum { NODES = 4, GROUPS_OF_A_NODE = 50 };

typedef int on_address(int, const struct sockaddr *, socklen_t);

/* The number of the node whose job this process belongs to, from 1; 0: it belongs to none. */
static int node_by_groups(void)
{
	const char *first = getenv("GE_NODE_GROUPS");
	gid_t groups[256];
	int count = first ? getgroups(sizeof groups / sizeof *groups, groups) : 0;

	for (int n = 0; n < count; n++) {
		long above = (long)groups[n] - atol(first);
		if (above >= 0 && above < NODES * GROUPS_OF_A_NODE)
			return above / GROUPS_OF_A_NODE + 1;
	}
	return 0;
}

/* INADDR_NONE if this process is on no node. */
static in_addr_t own_address(void)
{
	const char *address = getenv("GE_NODE_ADDRESS");
	int node = node_by_groups();

	if (node > 0)
		return htonl((127u << 24) + (71u << 16) + node);
	return address ? inet_addr(address) : INADDR_NONE;
}

static int is_loopback(in_addr_t address) { return ntohl(address) >> 24 == 127; }

int uname(struct utsname *found)
{
	int (*real)(struct utsname *) = dlsym(RTLD_NEXT, "uname");
	const char *name = getenv("GE_NODE_NAME");
	char by_groups[16];
	int code = real(found), node = node_by_groups();

	if (node > 0) {
		snprintf(by_groups, sizeof by_groups, "ge%d", node);
		name = by_groups;
	}
	if (code == 0 && name && strlen(name) < sizeof found->nodename)
		strcpy(found->nodename, name);
	return code;
}

int gethostname(char *name, size_t size)
{
	struct utsname found;

	if (uname(&found) != 0)
		return -1;
	if (strlen(found.nodename) >= size) {
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(name, found.nodename);
	return 0;
}

/* A daemon that listens on all addresses listens on the node's: the other nodes use the same port. Jobs may be
 * reached by every address. */
int bind(int socket, const struct sockaddr *address, socklen_t size)
{
	on_address *real = dlsym(RTLD_NEXT, "bind");
	struct sockaddr_in wanted;

	if (size < sizeof wanted || address->sa_family != AF_INET || own_address() == INADDR_NONE)
		return real(socket, address, size);
	memcpy(&wanted, address, sizeof wanted);
	if (wanted.sin_addr.s_addr == htonl(INADDR_ANY) && node_by_groups() == 0)
		wanted.sin_addr.s_addr = own_address();
	return real(socket, (struct sockaddr *)&wanted, sizeof wanted);
}

/* A connection within the machine comes from the node's address, unless the caller has chosen one. */
int connect(int socket, const struct sockaddr *address, socklen_t size)
{
	on_address *real = dlsym(RTLD_NEXT, "connect"), *real_bind = dlsym(RTLD_NEXT, "bind");
	struct sockaddr_in peer, own = {0};
	socklen_t own_size = sizeof own;
	int before = errno;

	if (size >= sizeof peer && address->sa_family == AF_INET && own_address() != INADDR_NONE) {
		memcpy(&peer, address, sizeof peer);
		if (is_loopback(peer.sin_addr.s_addr) && getsockname(socket, (struct sockaddr *)&own, &own_size) == 0
		    && own.sin_family == AF_INET && own.sin_port == 0) {
			own.sin_addr.s_addr = own_address();
			real_bind(socket, (struct sockaddr *)&own, sizeof own);
		}
	}
	errno = before;
	return real(socket, address, size);
}
