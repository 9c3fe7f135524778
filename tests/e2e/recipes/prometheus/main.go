// Prometheus as far as the end-to-end tests need it: its own OTLP handler, its own storage, and its
// own query engine behind /api/v1/query. Flags and paths are those of the whole server.
package main

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/prometheus/prometheus/tsdb"
)

func main() {
	listen := kingpin.Flag("web.listen-address", "Where to listen.").Default("0.0.0.0:9090").String()
	path := kingpin.Flag("storage.tsdb.path", "Where the samples are kept.").Default("data").String()
	file := kingpin.Flag("config.file", "The configuration.").Default("prometheus.yml").String()
	kingpin.Flag("web.enable-otlp-receiver", "It always is.").Bool()
	kingpin.Parse()

	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	loaded, err := config.LoadFile(*file, false, logger)
	check(err)
	options := tsdb.DefaultOptions()
	if of := loaded.StorageConfig.TSDBConfig; of != nil {
		options.OutOfOrderTimeWindow = of.OutOfOrderTimeWindow
	}
	db, err := tsdb.Open(*path, logger, prometheus.NewRegistry(), options, nil)
	check(err)
	engine := promql.NewEngine(promql.EngineOpts{
		MaxSamples:       1_000_000,
		Timeout:          time.Minute,
		LookbackDelta:    5 * time.Minute,
		EnableAtModifier: true,
	})

	http.Handle("POST /api/v1/otlp/v1/metrics", remote.NewOTLPWriteHandler(
		logger, prometheus.NewRegistry(), db, func() config.Config { return *loaded },
		remote.OTLPOptions{LookbackDelta: 5 * time.Minute},
	))
	http.HandleFunc("GET /-/ready", func(http.ResponseWriter, *http.Request) {})
	http.HandleFunc("GET /api/v1/query", func(w http.ResponseWriter, r *http.Request) {
		at := time.Now()
		if seconds, err := strconv.ParseFloat(r.FormValue("time"), 64); err == nil {
			at = time.UnixMilli(int64(seconds * 1000))
		}
		query, err := engine.NewInstantQuery(r.Context(), db, nil, r.FormValue("query"), at)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		defer query.Close()
		result := query.Exec(r.Context())
		if result.Err != nil {
			http.Error(w, result.Err.Error(), http.StatusUnprocessableEntity)
			return
		}
		json.NewEncoder(w).Encode(map[string]any{"status": "success", "data": map[string]any{
			"resultType": result.Value.Type(), "result": result.Value,
		}})
	})
	check(http.ListenAndServe(*listen, nil))
}

func check(err error) {
	if err != nil {
		slog.Error("cannot go on", "error", err)
		os.Exit(1)
	}
}
