// The control API as a test in Go uses it, with the standard library: the URL of the API goes in; a
// session, a retried span and what is said of it come out; "done" at the end.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
)

const body = `{"resourceSpans": [{"scopeSpans": [{"spans": [{
	"traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331", "name": "pay",
	"attributes": [{"key": "cents", "value": {"intValue": "250"}}]}]}]}]}`

type session struct {
	Control   string            `json:"control"`
	Endpoints map[string]string `json:"endpoints"`
}

func main() {
	log.SetFlags(0)
	control := os.Args[1]
	var own session
	ask(control+"/sessions", "POST", `{"script": "503*2,ok"}`, http.StatusCreated, &own)
	for _, want := range []int{503, 503, 200} {
		ask(own.Endpoints["traces"], "POST", body, want, nil)
	}
	var found struct {
		Span struct {
			TraceID    string         `json:"trace_id"`
			Attributes map[string]any `json:"attributes"`
		} `json:"span"`
	}
	wanted := `{"span": {"name": "pay", "attributes": {"cents": 250}}, "timeout": 10}`
	ask(control+own.Control+"/wait", "POST", wanted, http.StatusOK, &found)
	if found.Span.TraceID != "0af7651916cd43dd8448eb211c80319c" {
		log.Fatalf("the trace is %q", found.Span.TraceID)
	}
	var missed struct {
		Error string `json:"error"`
	}
	ask(control+own.Control+"/assert", "POST", `{"name": "buy"}`, http.StatusConflict, &missed)
	if !strings.Contains(missed.Error, "pay") {
		log.Fatalf("the nearest miss is not named: %s", missed.Error)
	}
	var listed struct {
		Requests []struct {
			Status *int `json:"status"`
		} `json:"requests"`
	}
	ask(control+own.Control+"/requests", "GET", "", http.StatusOK, &listed)
	if len(listed.Requests) != 3 || *listed.Requests[2].Status != 200 {
		log.Fatalf("the requests are %v", listed.Requests)
	}
	ask(control+own.Control, "DELETE", "", http.StatusOK, nil)
	fmt.Println("done")
}

// ask sends one request; what is not answered as wanted ends the program.
func ask(url, method, content string, want int, into any) {
	request, err := http.NewRequest(method, url, bytes.NewBufferString(content))
	check(err)
	request.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(request)
	check(err)
	defer answer.Body.Close()
	said, err := io.ReadAll(answer.Body)
	check(err)
	if answer.StatusCode != want {
		log.Fatalf("%s %s: %d instead of %d: %s", method, url, answer.StatusCode, want, said)
	}
	if into != nil {
		check(json.Unmarshal(said, into))
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
