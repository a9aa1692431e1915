/* A llama-server that costs nothing: one epoll loop, one fixed answer, or 100 events if asked to stream.
   Arguments: [MILLISECONDS between the events of a stream, none if it is left out] PORT */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { CLIENTS = 4096, BUFFER = 65536, EVENTS = 100 };
static struct client { char in[BUFFER]; int length, left; } clients[CLIENTS];
static char answer[2048], head[256], event[512], last[64];
static int is_paced;

static void send_all(int fd, const char *data, size_t length) {
    while (length > 0) {
        ssize_t sent = send(fd, data, length, MSG_NOSIGNAL);
        if (sent <= 0) return;
        data += sent;
        length -= (size_t)sent;
    }
}

/* Send the next event of every stream. */
static void tick(void) {
    for (int fd = 0; fd < CLIENTS; fd++) {
        if (clients[fd].left == 0) continue;
        send_all(fd, event, strlen(event));
        if (--clients[fd].left == 0) send_all(fd, last, strlen(last));
    }
}

static void reply(int fd, int is_stream) {
    if (!is_stream) {
        send_all(fd, answer, strlen(answer));
        return;
    }
    send_all(fd, head, strlen(head));
    if (is_paced) {
        clients[fd].left = EVENTS;
        return;
    }
    for (int i = 0; i < EVENTS; i++) send_all(fd, event, strlen(event));
    send_all(fd, last, strlen(last));
}

/* Answer every whole request in the buffer. */
static void serve(int fd, struct client *c) {
    for (;;) {
        c->in[c->length] = 0;
        char *end = strstr(c->in, "\r\n\r\n");
        if (!end) return;
        char *field = strcasestr(c->in, "content-length:");
        int body = field && field < end ? atoi(field + 15) : 0;
        int whole = (int)(end - c->in) + 4 + body;
        if (c->length < whole) return;
        char kept = c->in[whole];
        c->in[whole] = 0;
        int is_stream = strstr(end, "\"stream\":true") != NULL;
        c->in[whole] = kept;
        memmove(c->in, c->in + whole, (size_t)(c->length - whole));
        c->length -= whole;
        reply(fd, is_stream);
    }
}

int main(int count, char **arguments) {
    char text[720], body[1200], data[400];
    memset(text, 'a', sizeof text);
    text[sizeof text - 1] = 0;
    sprintf(body, "{\"choices\":[{\"finish_reason\":\"stop\",\"index\":0,\"message\":{\"role\":\"assistant\","
                  "\"content\":\"%s\"}}],\"object\":\"chat.completion\"}", text);
    sprintf(answer, "HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nContent-Type: application/json; charset=utf-8\r\n"
                    "Content-Length: %zu\r\nKeep-Alive: timeout=5, max=100\r\n\r\n%s", strlen(body), body);
    sprintf(head, "HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nContent-Type: text/event-stream\r\n"
                  "Transfer-Encoding: chunked\r\n\r\n");
    sprintf(data, "data: {\"choices\":[{\"finish_reason\":null,\"index\":0,\"delta\":{\"content\":\" word\"}}],"
                  "\"model\":\"small\",\"object\":\"chat.completion.chunk\"}\n\n");
    sprintf(event, "%zx\r\n%s\r\n", strlen(data), data);
    sprintf(last, "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");

    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0), poll = epoll_create1(0);
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(arguments[count - 1])),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 1024)) return 1;
    struct epoll_event wanted = {.events = EPOLLIN, .data.fd = listener}, ready[256];
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &wanted);
    is_paced = count > 2;
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    long pause = is_paced ? atol(arguments[1]) * 1000000 : 0;
    struct itimerspec often = {{0, pause}, {0, pause}};
    timerfd_settime(timer, 0, &often, NULL);
    struct epoll_event due = {.events = EPOLLIN, .data.fd = timer};
    epoll_ctl(poll, EPOLL_CTL_ADD, timer, &due);
    for (;;) {
        int found = epoll_wait(poll, ready, 256, -1);
        for (int i = 0; i < found; i++) {
            int fd = ready[i].data.fd;
            if (fd == timer) {
                unsigned long long times;
                if (read(timer, &times, sizeof times) > 0) tick();
                continue;
            }
            if (fd == listener) {
                int client = accept(listener, NULL, NULL);
                if (client < 0 || client >= CLIENTS) { close(client); continue; }
                setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                clients[client].length = clients[client].left = 0;
                struct epoll_event readable = {.events = EPOLLIN, .data.fd = client};
                epoll_ctl(poll, EPOLL_CTL_ADD, client, &readable);
                continue;
            }
            struct client *c = &clients[fd];
            ssize_t got = recv(fd, c->in + c->length, (size_t)(BUFFER - 1 - c->length), 0);
            if (got <= 0) { c->left = 0; close(fd); }
            else { c->length += (int)got; serve(fd, c); }
        }
    }
}
