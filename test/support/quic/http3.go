package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// tally is what became of the requests of one kind.
type tally struct {
	Total int            `json:"total"`
	Lost  int            `json:"lost"`
	Why   map[string]int `json:"why"`
}

type report struct {
	sync.Mutex
	// Of the first request on a connection of its own: its handshake, or itself, failed.
	New *tally `json:"new"`
	// Of requests on connections that are kept for as long as the server lets them.
	Kept *tally `json:"kept"`
	// Of requests that take long.
	Long *tally `json:"long"`
	// How often a kept client had to open another connection.
	Reopened int `json:"reopened"`
	// The slowest new connection, with its request.
	SlowestMs int64 `json:"slowestMs"`
}

func (r *report) note(t *tally, err error) {
	r.Lock()
	defer r.Unlock()
	t.Total++
	if err != nil {
		t.Lost++
		t.Why[time.Now().Format("15:04:05.000 ")+err.Error()]++
	}
}

func loadHTTP3(url string, args []string) error {
	flags := flag.NewFlagSet("http3", flag.ExitOnError)
	keptCount := flags.Int("kept", 10, "kept connections")
	keptEvery := flags.Duration("kept-every", 100*time.Millisecond, "time between two requests of each")
	newEvery := flags.Duration("new-every", 50*time.Millisecond, "time between two new connections")
	longEvery := flags.Duration("long-every", time.Second, "time between two long requests; 0: none")
	long := flags.String("long", "/slow?ms=6000", "path of a long request")
	_ = flags.Parse(args)

	r := &report{New: newTally(), Kept: newTally(), Long: newTally()}
	done := untilStdinEnds()
	var running sync.WaitGroup
	for range *keptCount {
		running.Add(1)
		go func() {
			defer running.Done()
			keep(url, *keptEvery, r, done)
		}()
	}
	each(*newEvery, done, &running, func() {
		start := time.Now()
		r.note(r.New, once(url+"/", 10*time.Second))
		r.Lock()
		r.SlowestMs = max(r.SlowestMs, time.Since(start).Milliseconds())
		r.Unlock()
	})
	if *longEvery > 0 {
		each(*longEvery, done, &running, func() { r.note(r.Long, once(url+*long, 30*time.Second)) })
	}
	<-done
	running.Wait()
	return json.NewEncoder(os.Stdout).Encode(r)
}

func newTally() *tally { return &tally{Why: map[string]int{}} }

// each begins the work again and again, without waiting for its end.
func each(every time.Duration, done <-chan struct{}, running *sync.WaitGroup, work func()) {
	running.Add(1)
	go func() {
		defer running.Done()
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				running.Add(1)
				go func() {
					defer running.Done()
					work()
				}()
			}
		}
	}()
}

// keep makes requests on one connection, and opens another one when the server asks it to leave.
func keep(url string, every time.Duration, r *report, done <-chan struct{}) {
	client, opened := newClient()
	defer client.Close()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-done:
			r.Lock()
			r.Reopened += *opened - 1
			r.Unlock()
			return
		case <-ticker.C:
			r.note(r.Kept, get(client, url+"/", 10*time.Second))
		}
	}
}

func once(url string, limit time.Duration) error {
	client, _ := newClient()
	defer client.Close()
	return get(client, url, limit)
}

func newClient() (*http3.Transport, *int) {
	opened := 0
	return &http3.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		QUICConfig:      &quic.Config{HandshakeIdleTimeout: 5 * time.Second, MaxIdleTimeout: 60 * time.Second},
		Dial: func(ctx context.Context, addr string, tlsConfig *tls.Config, config *quic.Config) (*quic.Conn, error) {
			opened++
			return quic.DialAddr(ctx, addr, tlsConfig, config)
		},
	}, &opened
}

func get(client *http3.Transport, url string, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return errors.Join(errors.New("body"), err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", response.StatusCode)
	}
	return nil
}
