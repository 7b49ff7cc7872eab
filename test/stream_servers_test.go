package test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"

	"golang.org/x/net/websocket"
)

// live answers as long as it is spoken to: a WebSocket that gives back each message, and below /stream a call of HTTP/2 in both directions that ends with
// trailers, as those of gRPC do.
func live() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/socket", websocket.Server{Handler: func(c *websocket.Conn) {
		for {
			var message string
			if websocket.Message.Receive(c, &message) != nil || websocket.Message.Send(c, "echo "+message) != nil {
				return
			}
		}
	}})
	mux.HandleFunc("/stream", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "Grpc-Status")
		w.Header().Set("Content-Type", "application/grpc")
		w.WriteHeader(http.StatusOK)
		flush := http.NewResponseController(w)
		_ = flush.Flush()
		for in := bufio.NewScanner(r.Body); in.Scan(); {
			fmt.Fprintf(w, "%s echo %s\n", r.Proto, in.Text())
			_ = flush.Flush()
		}
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Grpc-Status", "0")
	})
	return mux
}
