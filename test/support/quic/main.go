// A load for HTTP/3 and UDP, as tests need it.
//
//	quicload cert DIR                     a self-signed certificate: DIR/cert.pem, DIR/key.pem
//	quicload http3 URL [flags]            kept connections, new connections, long requests
//	quicload udp ADDRESS [flags]          numbered datagrams from many sources, which are echoed
//	quicload echo ADDRESS                 the server that echoes them
//
// A load runs until its standard input ends, waits for what is under way and prints one JSON object.
package main

import (
	"fmt"
	"io"
	"os"
)

func main() {
	if len(os.Args) < 3 {
		fail(fmt.Errorf("usage: quicload cert|http3|udp|echo TARGET [flags]"))
	}
	target, args := os.Args[2], os.Args[3:]
	switch os.Args[1] {
	case "cert":
		fail(writeCertificate(target))
	case "http3":
		fail(loadHTTP3(target, args))
	case "udp":
		fail(loadUDP(target, args))
	case "echo":
		fail(serveEcho(target))
	default:
		fail(fmt.Errorf("%s: no such command", os.Args[1]))
	}
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// untilStdinEnds closes the channel once the parent process lets this one end, or has exited.
func untilStdinEnds() <-chan struct{} {
	done := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(done)
	}()
	return done
}
