package main

import (
	"encoding/binary"
	"encoding/json"
	"flag"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const echoLimit = 3 * time.Second

type udpReport struct {
	Sent     int64 `json:"sent"`
	Lost     int64 `json:"lost"`
	Sessions int64 `json:"sessions"`
	// Sources whose datagrams the echo saw from more than one address: their session was moved.
	Moved int64 `json:"moved"`
}

func loadUDP(address string, args []string) error {
	flags := flag.NewFlagSet("udp", flag.ExitOnError)
	kept := flags.Int("kept", 10, "sources that stay")
	keptEvery := flags.Duration("kept-every", 20*time.Millisecond, "time between two datagrams of each")
	newEvery := flags.Duration("new-every", 20*time.Millisecond, "time between two new sources of ten datagrams")
	_ = flags.Parse(args)

	r := &udpReport{}
	done := untilStdinEnds()
	var running sync.WaitGroup
	for range *kept {
		running.Add(1)
		go func() {
			defer running.Done()
			source(address, *keptEvery, 0, done, r)
		}()
	}
	each(*newEvery, done, &running, func() { source(address, *keptEvery, 10, nil, r) })
	<-done
	running.Wait()
	return json.NewEncoder(os.Stdout).Encode(r)
}

// source sends numbered datagrams from one port, until done or for as many as it is told.
func source(address string, every time.Duration, count int, done <-chan struct{}, r *udpReport) {
	conn, err := net.Dial("udp", address)
	if err != nil {
		return
	}
	defer conn.Close()
	atomic.AddInt64(&r.Sessions, 1)
	var mutex sync.Mutex
	seen := map[uint64]bool{}
	ports := map[string]bool{}
	go func() {
		buffer := make([]byte, 64)
		for {
			n, err := conn.Read(buffer)
			if err != nil {
				if _, isNet := err.(*net.OpError); isNet && !isClosed(err) {
					continue
				}
				return
			}
			if n < 8 {
				continue
			}
			mutex.Lock()
			seen[binary.BigEndian.Uint64(buffer)] = true
			ports[string(buffer[8:n])] = true
			mutex.Unlock()
		}
	}()
	sent := uint64(0)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
sending:
	for count == 0 || sent < uint64(count) {
		select {
		case <-done:
			break sending
		case <-ticker.C:
			sent++
			_, _ = conn.Write(binary.BigEndian.AppendUint64(nil, sent))
		}
	}
	for end := time.Now().Add(echoLimit); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		mutex.Lock()
		all := uint64(len(seen)) == sent
		mutex.Unlock()
		if all {
			break
		}
	}
	mutex.Lock()
	defer mutex.Unlock()
	atomic.AddInt64(&r.Sent, int64(sent))
	atomic.AddInt64(&r.Lost, int64(sent)-int64(len(seen)))
	if len(ports) > 1 {
		atomic.AddInt64(&r.Moved, 1)
	}
}

func isClosed(err error) bool { return err != nil && err.(*net.OpError).Err == net.ErrClosed }

// serveEcho answers each datagram with itself and the port that it came from, 30 ms later.
func serveEcho(address string) error {
	conn, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	go func() {
		<-untilStdinEnds()
		conn.Close()
	}()
	buffer := make([]byte, 1500)
	for {
		n, from, err := conn.ReadFrom(buffer)
		if err != nil {
			return nil
		}
		answer := append(append([]byte{}, buffer[:n]...), from.String()...)
		time.AfterFunc(30*time.Millisecond, func() { _, _ = conn.WriteTo(answer, from) })
	}
}
