/* Makes processes of one machine believe that they are on the execution host GE_NODE_NAME, whose address is
 * GE_NODE_ADDRESS, one of 127.0.0.0/8. To be preloaded; what is linked statically sees the machine as it is.
 *
 * Grid Engine knows hosts by name and lets all of a cluster's daemons listen on one port, and it refuses a
 * peer whose address resolves to another name than it says. So a node needs its name, its address when it
 * listens, and its address when it connects. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/utsname.h>

typedef int on_address(int, const struct sockaddr *, socklen_t);

/* INADDR_NONE if this process is on no node. */
static in_addr_t own_address(void)
{
	const char *address = getenv("GE_NODE_ADDRESS");
	return address ? inet_addr(address) : INADDR_NONE;
}

static int is_loopback(in_addr_t address) { return ntohl(address) >> 24 == 127; }

int uname(struct utsname *found)
{
	int (*real)(struct utsname *) = dlsym(RTLD_NEXT, "uname");
	const char *name = getenv("GE_NODE_NAME");
	int code = real(found);

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

/* Who listens on all addresses listens on the node's: the other nodes use the same port. */
int bind(int socket, const struct sockaddr *address, socklen_t size)
{
	on_address *real = dlsym(RTLD_NEXT, "bind");
	struct sockaddr_in wanted;

	if (size < sizeof wanted || address->sa_family != AF_INET || own_address() == INADDR_NONE)
		return real(socket, address, size);
	memcpy(&wanted, address, sizeof wanted);
	if (wanted.sin_addr.s_addr == htonl(INADDR_ANY))
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
