package main

// The steps in which a call fails, and the client must learn why.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	grpcstatus "google.golang.org/grpc/status"

	pb "github.com/cognateserver/cognate/clients/go/cognatev1"
)

func (s *scenario) badRequest(ctx context.Context) {
	_, err := s.client.TopK(ctx, &pb.TopKRequest{Collection: collection, Queries: byText("a cat"), K: 0})
	checkField(statusOf(err), "k")
}

func (s *scenario) resourceInfo(ctx context.Context) {
	_, err := s.client.ListDocuments(ctx, &pb.ListDocumentsRequest{Collection: "nowhere"})
	checkCode(err, codes.NotFound)
	info := detail[*errdetails.ResourceInfo](statusOf(err))
	check(info.ResourceName == "nowhere", "%v", info)
}

func (s *scenario) similar(ctx context.Context) error {
	_, err := s.client.Similarity(ctx, &pb.SimilarityRequest{A: []string{"a cat", "a dog"}})
	return err
}

func (s *scenario) retryInfo(ctx context.Context) {
	var streams []grpc.BidiStreamingClient[pb.EmbedRequest, pb.EmbedResponse]
	for range 32 {
		stream, err := s.client.EmbedStream(ctx)
		must(err)
		must(stream.Send(&pb.EmbedRequest{Texts: []string{"a cat"}}))
		_, err = stream.Recv()
		must(err)
		streams = append(streams, stream)
	}
	err := s.similar(ctx)
	checkCode(err, codes.ResourceExhausted)
	check(detail[*errdetails.RetryInfo](statusOf(err)).RetryDelay.AsDuration() > 0, "%v", err)
	for _, stream := range streams {
		must(stream.CloseSend())
	}
	must(retry(ctx, func() error { return s.similar(ctx) }))
}

// retry repeats a call as long as the server says when to try again.
func retry(ctx context.Context, call func() error) error {
	for {
		err := call()
		var info *errdetails.RetryInfo
		for _, detail := range grpcstatus.Convert(err).Details() {
			if found, ok := detail.(*errdetails.RetryInfo); ok {
				info = found
			}
		}
		if info == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(info.RetryDelay.AsDuration()):
		}
	}
}

func (s *scenario) deadline(ctx context.Context) {
	short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	stream, err := s.client.EmbedStream(short)
	must(err)
	_, err = stream.Recv()
	checkCode(err, codes.DeadlineExceeded)

	request := &pb.EmbedRequest{}
	for n := range 512 {
		request.Texts = append(request.Texts, fmt.Sprint(n, strings.Repeat(" a long text of many words", 40)))
	}
	short, cancel = context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	_, err = s.client.Embed(short, request)
	checkCode(err, codes.DeadlineExceeded, codes.ResourceExhausted)
	must(s.similar(ctx))
}

func (s *scenario) cancel(ctx context.Context) {
	left, cancel := context.WithCancel(ctx)
	embeddings, err := s.client.EmbedStream(left)
	must(err)
	must(embeddings.Send(&pb.EmbedRequest{Texts: []string{"a cat"}}))
	_, err = embeddings.Recv()
	must(err)
	cancel()
	_, err = embeddings.Recv()
	checkCode(err, codes.Canceled)

	left, cancel = context.WithCancel(ctx)
	documents, err := s.client.Export(left, &pb.ExportRequest{Collection: collection, WithVector: true})
	must(err)
	_, err = documents.Recv()
	must(err)
	cancel()
	for err == nil { // what has arrived is still read, and that may be everything
		_, err = documents.Recv()
	}
	if !errors.Is(err, io.EOF) {
		checkCode(err, codes.Canceled)
	}
	must(s.similar(ctx))
}

func (s *scenario) messageSize(ctx context.Context) {
	request := &pb.TopKRequest{Collection: collection, K: 1000, WithVector: true}
	for n := range 8 {
		request.Queries = append(request.Queries, byText(text(n))...)
	}
	conn, err := grpc.NewClient(s.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(err)
	defer conn.Close()
	_, err = pb.NewCognateClient(conn).TopK(ctx, request)
	fmt.Println("a client with defaults:", err)

	response, err := s.client.TopK(ctx, request)
	must(err)
	check(len(response.Results) == 8, "%d results", len(response.Results))
	for _, result := range response.Results {
		check(len(result.Hits) == 898, "%d hits", len(result.Hits))
	}
}

// bearer sends a key with each call of a connection, and only over TLS.
type bearer string

func (key bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(key)}, nil
}

func (bearer) RequireTransportSecurity() bool { return true }

func (s *scenario) tlsKey(ctx context.Context) {
	as := func(authority, key string) pb.CognateClient {
		trust, err := credentials.NewClientTLSFromFile(os.Getenv(authority), "")
		must(err)
		options := []grpc.DialOption{grpc.WithTransportCredentials(trust)}
		if key != "" {
			options = append(options, grpc.WithPerRPCCredentials(bearer(os.Getenv(key))))
		}
		return pb.NewCognateClient(connect(os.Getenv("SCENARIO_TLS"), options...))
	}
	_, err := as("SCENARIO_CA", "SCENARIO_WRITER_KEY").Info(ctx, &pb.InfoRequest{})
	must(err)
	_, err = as("SCENARIO_CA", "").Info(ctx, &pb.InfoRequest{})
	checkCode(err, codes.Unauthenticated)
	reader := as("SCENARIO_CA", "SCENARIO_READER_KEY")
	_, err = reader.CreateCollection(ctx, &pb.CreateCollectionRequest{Name: collection})
	checkCode(err, codes.PermissionDenied)
	_, err = as("SCENARIO_OTHER_CA", "SCENARIO_WRITER_KEY").Info(ctx, &pb.InfoRequest{})
	checkCode(err, codes.Unavailable)
	check(strings.Contains(err.Error(), "certificate"), "%v", err)
}
